"""Robot samples and questions in one batch: each owes what it would owe alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from every_recipe import close, policy_of, seeded
from nano_batch import nano_batch

from crossroads.errors import InputError
from crossroads.train.cotraining import CoTraining, joined
from crossroads.types import Batch

ASKED = ("where is the red cube ?", "what is in the bin ?", "is the drawer open ?")


@dataclass(frozen=True)
class Steps:
    """The same batch at every step."""

    given: Batch

    def batch(self, step: int) -> Batch:
        return self.given


def questions() -> Batch:
    batch = nano_batch(policy_of("pi05").recipe, size=3, seed=4)
    return replace(
        batch,
        obs=replace(batch.obs.told(ASKED), state=torch.zeros(3, 0)),
        actions=torch.zeros(3, 0, 0),
        actions_valid=torch.zeros(3, 0, dtype=torch.bool),
        answer=("at <x3> <y9> .", "the ball", "no"),
    )


def test_robot_samples_owe_what_they_did_and_questions_their_answers_alone() -> None:
    policy = policy_of("pi05")
    policy.enter(policy.recipe.phases[0])
    robot = nano_batch(policy.recipe, size=2)
    both = CoTraining(robot=Steps(robot), language=Steps(questions())).batch(0)
    assert both.batch_size == 5
    assert both.answer[2:] == questions().answer
    with torch.no_grad():
        found = policy.loss(both, generator=seeded()).terms
        alone = policy.loss(robot, generator=seeded()).terms
    assert found["action"][2:].tolist() == [0.0] * 3
    assert (found["action"][:2] > 0).all()
    close(found["subtask"][:2], alone["subtask"], 1e-5)
    assert (found["subtask"][2:] > 0).all()


def test_cameras_that_the_pictures_lack_are_black() -> None:
    robot = nano_batch(policy_of("pi05").recipe, size=2)
    wrist = replace(robot, obs=replace(robot.obs, images={**robot.obs.images, "wrist": robot.obs.images["front"]}))
    images = joined(wrist, questions()).obs.images
    assert not images["wrist"][2:].any()
    assert torch.equal(images["front"][2:], questions().obs.images["front"])


@pytest.mark.parametrize(
    ("change", "said"), [("future", "without later frames"), ("camera", "cameras among"), ("size", "pictures of")]
)
def test_what_cannot_be_joined_is_refused(change: str, said: str) -> None:
    robot, language = nano_batch(policy_of("pi05").recipe, size=2), questions()
    front = language.obs.images["front"]
    if change == "future":
        frames = robot.obs.images["front"][:, None]
        robot = replace(robot, future={"front": frames}, future_valid=torch.ones(2, 1, dtype=torch.bool))
    else:
        images = {"side": front} if change == "camera" else {"front": front[:, ::2]}
        language = replace(language, obs=replace(language.obs, images=images))
    with pytest.raises(InputError, match=said):
        joined(robot, language)
