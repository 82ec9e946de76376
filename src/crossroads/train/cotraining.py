"""Robot data and vision-language data in one batch, so that a policy that learns to act keeps what it can say.

pi0.5 (arXiv 2504.16054) and knowledge insulation (arXiv 2505.23705) train on both at once. Every batch holds samples of
both kinds, on every process alike; a sample without actions owes its answer alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from crossroads.errors import InputError
from crossroads.train.loop import BatchSource
from crossroads.types import Batch


@dataclass(frozen=True, kw_only=True)
class CoTraining:
    """Batches of ``robot`` with those of ``language`` (pictures, questions, answers) behind them; how many samples each
    source gives is the mixture."""

    robot: BatchSource[Batch]
    language: BatchSource[Batch]

    def batch(self, step: int) -> Batch:
        return joined(self.robot.batch(step), self.language.batch(step))


def joined(robot: Batch, language: Batch) -> Batch:
    """Samples with actions, then samples with answers alone: their state is not a number, no action of theirs is valid,
    and cameras that they lack are black.

    Raises:
        InputError: the robot's samples have a future to be predicted, or the pictures are of other cameras or sizes.
    """
    if robot.future or robot.later_state.shape[1]:
        _refuse("robot samples without later frames and states", "some with", "Train this policy without questions.")
    if strangers := sorted(set(language.obs.images) - set(robot.obs.images)):
        _refuse(f"cameras among {sorted(robot.obs.images)}", str(strangers), "Rename the pictures' cameras.")
    num, ours, theirs = language.batch_size, robot.obs, language.obs
    images = {}
    for camera, image in ours.images.items():
        shown = theirs.images.get(camera, torch.zeros_like(image[:1]).expand(num, *image.shape[1:]))
        if shown.shape[1:] != image.shape[1:]:
            _refuse(f"pictures of {tuple(image.shape[1:])}", str(tuple(shown.shape[1:])), "Scale the pictures.")
        images[camera] = torch.cat([image, shown.to(image)])
    obs = replace(
        ours,
        images=images,
        state=torch.cat([ours.state, ours.state.new_full((num, ours.state.shape[1]), torch.nan)]),
        text=(*ours.text, *theirs.text),
        robot=(*ours.robot, *ours.robot[:1] * num),
        time_s=torch.cat([ours.time_s, theirs.time_s.to(ours.time_s)]),
    )
    still, never = robot.actions.new_zeros(num, *robot.actions.shape[1:]), robot.actions_valid.new_zeros(())
    return replace(
        robot,
        obs=obs,
        actions=torch.cat([robot.actions, still]),
        actions_valid=torch.cat([robot.actions_valid, never.expand(num, robot.actions_valid.shape[1])]),
        future_valid=torch.cat([robot.future_valid, never.expand(num, robot.future_valid.shape[1])]),
        later_state=robot.later_state.new_zeros(len(obs.text), *robot.later_state.shape[1:]),
        later_state_valid=never.expand(len(obs.text), 0),
        value=torch.cat([robot.value, language.value.to(robot.value)]),
        answer=(*robot.answer, *language.answer),
        weight=torch.cat([robot.weight, language.weight.to(robot.weight)]),
    )


def _refuse(expected: str, got: str, do: str) -> None:
    raise InputError(where="training on robot and language data", expected=expected, got=got, do=do)
