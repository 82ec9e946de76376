"""Acting on the true future beside acting on one's own: the same noise, the same windows, a ratio that covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from every_recipe import policy_of, seeded
from nano_batch import nano_batch

from crossroads.axes import imagines
from crossroads.evaluate.foresight import foresight_gap
from crossroads.evaluate.offline import root_mean_square_ratio
from crossroads.recipes.catalogue import RECIPES
from crossroads.schedule import Denoise

IMAGINING = [name for name, make in RECIPES.items() if make().window.num_actions and imagines(make())]


def test_the_recipes_that_imagine_while_acting_are_known() -> None:
    assert {"fast_wam_idm", "fast_wam_joint"} <= set(IMAGINING)


@pytest.mark.parametrize("name", IMAGINING)
def test_a_known_stream_arrives_at_its_value_and_the_actions_read_it(name: str) -> None:
    policy = policy_of(name)
    batch = nano_batch(policy.recipe)
    (stream,) = policy.imagined_streams()
    true = policy.net.target(stream, batch).values
    led = policy.settle(batch.obs, generator=seeded(), known={stream: true})
    num = led.streams[stream].shape[1]  # of a policy that goes on block by block, those of the first
    legs = [leg for leg in policy.recipe.stage.schedule if isinstance(leg, Denoise)]
    end = max(dict(leg.ends).get(stream, 0.0) for leg in legs)  # what stops early keeps that share of its noise
    nothing = policy.settle(batch.obs, generator=seeded(), known={stream: 0 * true}).streams[stream]
    assert nothing.std().item() == pytest.approx(end, abs=0.1)
    torch.testing.assert_close(led.streams[stream] - nothing, (1 - end) * true[:, :num], rtol=0, atol=1e-4)
    free = policy.settle(batch.obs, generator=seeded())
    assert not torch.equal(led.streams["action"], free.streams["action"])


def test_knowing_what_one_would_have_imagined_changes_nothing() -> None:
    """The actions of the form that imagines first read where the video arrived, not how it came there."""
    policy = policy_of("fast_wam_idm")
    obs = nano_batch(policy.recipe).obs
    free = policy.settle(obs, generator=seeded())
    led = policy.settle(obs, generator=seeded(), known={"video": free.streams["video"]})
    torch.testing.assert_close(led.streams["action"], free.streams["action"], rtol=1e-4, atol=1e-5)


def test_other_recorded_futures_change_the_error_on_the_true_future_and_not_the_other() -> None:
    policy = policy_of("fast_wam_joint")
    batch = nano_batch(policy.recipe, size=4)
    scale = np.full(4, 0.5)
    gap = foresight_gap(policy, batch, scale=scale, episodes=[0, 0, 1, 1])
    assert gap.interval.low <= gap.ratio <= gap.interval.high
    assert gap.ratio == pytest.approx(gap.imagined / gap.true)
    other = replace(batch, future=nano_batch(policy.recipe, size=4, seed=5).future)
    moved = foresight_gap(policy, other, scale=scale, episodes=[0, 0, 1, 1])
    assert moved.imagined == pytest.approx(gap.imagined)
    assert moved.true != pytest.approx(gap.true)


def test_the_interval_of_the_ratio_covers_when_both_errors_share_their_windows() -> None:
    rng = np.random.default_rng(0)
    groups, counted = np.repeat(np.arange(30), 5), np.ones(150)
    covered = []
    for _ in range(1500):
        own = np.exp(0.6 * rng.normal(size=(30, 1)) - 0.18)
        shared = rng.chisquare(8, size=(30, 5)) / 8
        first, second = (own * shared * rng.chisquare(8, size=(30, 5)) / 8 for _ in range(2))
        ratio, interval = root_mean_square_ratio(4 * first.ravel(), second.ravel(), counted, groups)
        assert interval.contains(ratio)
        covered.append(interval.contains(2.0))
    assert 0.93 <= np.mean(covered) <= 0.97
