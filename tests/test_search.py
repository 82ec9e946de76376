"""The cross-entropy method alone, and as legs of a schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of, seeded
from nano_batch import nano_batch
from torch import Tensor

from crossroads.codecs.frame_features import FrameFeatureCodec
from crossroads.errors import InputError
from crossroads.interpreter import Interpreter
from crossroads.recipes.catalogue import recipe
from crossroads.schedule import Branch, Predict, Rank
from crossroads.search import Spread, narrowed, nearness


def test_what_is_drawn_has_the_mean_and_the_deviation_of_the_best() -> None:
    best = torch.randn(2, 5, 3, 4, generator=seeded())
    spread = narrowed(best, None, 0.0)
    torch.testing.assert_close(spread.mean, best.mean(dim=1))
    noise = torch.randn(2 * 7, 3, 4, generator=seeded(4))
    drawn = spread.drawn(noise).unflatten(0, (2, 7))
    for sample in range(2):
        torch.testing.assert_close(drawn[sample], spread.mean[sample] + spread.std[sample] * noise[7 * sample :][:7])


def test_momentum_keeps_a_part_of_what_was() -> None:
    best = torch.randn(2, 5, 3, 4, generator=seeded())
    before = Spread(mean=torch.full((2, 3, 4), 2.0), std=torch.full((2, 3, 4), 3.0))
    free, kept = narrowed(best, before, 0.0), narrowed(best, before, 0.25)
    torch.testing.assert_close(kept.mean, 0.75 * free.mean + 0.5)
    torch.testing.assert_close(kept.std, 0.75 * free.std + 0.75)
    assert torch.equal(narrowed(best, None, 0.5).mean, 0.5 * free.mean)


def test_rounds_come_nearer_to_a_goal() -> None:
    """Of a world in which what is done is what is seen."""
    goal, generator, spread, far = torch.full((1, 2, 3), 0.7), seeded(), None, []
    for _ in range(6):
        noise = torch.randn(40, 2, 3, generator=generator)
        tried = noise if spread is None else spread.drawn(noise)
        worth = nearness(tried, goal.expand(40, 2, 3))
        spread = narrowed(tried[worth.topk(8).indices][None], spread, 0.1)
        far.append((spread.mean - goal).abs().mean().item())
    assert far[-1] < 0.1 < far[0]


def test_only_the_frame_that_is_to_be_reached_counts() -> None:
    found, goal = torch.randn(3, 8, 5, generator=seeded()), torch.randn(3, 2, 5, generator=seeded(4))
    other = torch.cat([found[:, :6] + 1, found[:, 6:]], dim=1)
    assert torch.equal(nearness(found, goal), nearness(other, goal))
    torch.testing.assert_close(nearness(torch.cat([found[:, :6], goal], dim=1), goal), torch.zeros(3))


@torch.no_grad()
def test_as_many_passes_as_steps_are_a_roll_out() -> None:
    """The second pass sees what the first one found for the frame before; more passes change nothing."""
    policy = policy_of("vjepa2_ac")
    obs = nano_batch(policy.recipe).obs

    def after(passes: int) -> Tensor:
        run = Interpreter(policy.net, obs, seeded())
        return run.run((Predict(streams=("video",)),) * passes).streams["video"]

    once, twice, thrice = (after(passes).unflatten(1, (2, -1)) for passes in (1, 2, 3))
    torch.testing.assert_close(once[:, 0], twice[:, 0])
    assert not torch.allclose(once[:, 1], twice[:, 1], atol=1e-3)
    torch.testing.assert_close(twice, thrice)


@torch.no_grad()
def test_the_plan_is_the_mean_of_the_best_and_leads_where_the_goal_is() -> None:
    """With the goal that some actions lead to, what is planned is nearer to it than what is drawn."""
    policy = policy_of("vjepa2_ac")
    codec, obs = policy.net.own_codec("goal"), nano_batch(policy.recipe).obs
    assert isinstance(codec, FrameFeatureCodec)
    roll = (Predict(streams=("video",)),) * 2
    reached = Interpreter(policy.net, obs, seeded(7)).run(roll).streams["video"]
    goal = reached[:, -codec.spec.per_frame :]
    rank = Rank(stream="video", towards="goal", settles=("action",), best=4)
    legs = (Predict(streams=("goal",)), *(Branch(num=24), *roll, rank) * 3, *roll)
    settled = Interpreter(policy.net, obs, seeded(), known={"goal": goal}).run(legs).streams
    assert torch.equal(settled["goal"], goal)
    assert settled["action"].shape == (2, 2, 4)
    drawn = [nearness(Interpreter(policy.net, obs, seeded(s)).run(roll).streams["video"], goal) for s in range(8)]
    assert bool((nearness(settled["video"], goal) > torch.stack(drawn).mean(dim=0)).all())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"towards": "image"}, "a stream of the same frame features"),
        ({"settles": ("goal",)}, "streams with a Flow objective"),
        ({"best": 1}, "at least 2 of the best"),
        ({"momentum": 1.0}, "a momentum below 1"),
        ({"best": 17}, "no more of the best than there are branches"),
    ],
)
def test_a_rank_that_cannot_settle_is_refused(change: dict[str, object], said: str) -> None:
    planner = recipe("vjepa2_ac")
    schedule = planner.stage.schedule
    assert isinstance(schedule[-1], Rank)
    with pytest.raises(InputError, match=said):
        planner.vary({"stage.schedule": (*schedule[:-1], replace(schedule[-1], **change))})  # pyright: ignore[reportArgumentType]
