"""Real-time chunking: what a promise weighs, what keeps it, and what cannot keep it."""

from __future__ import annotations

import pytest
import torch
from every_recipe import close, fresh, policy_of, seeded
from hypothesis import given
from hypothesis import strategies as st
from nano_batch import nano_batch
from torch import Tensor

from crossroads.chunking import Fade, Given, Guided, Kept, Promised
from crossroads.errors import InputError
from crossroads.recipes.catalogue import recipe
from crossroads.solvers import Euler

FADES: tuple[Fade, ...] = ("none", "full", "linear", "exponential")


@given(num=st.integers(1, 20), delay=st.integers(0, 20), horizon=st.integers(0, 25))
def test_a_promise_counts_fully_at_first_and_never_more_later(num: int, delay: int, horizon: int) -> None:
    found = {fade: Guided(horizon=horizon, fade=fade).weights(num, delay) for fade in FADES}
    start = min(delay, horizon)
    for weights in found.values():
        assert weights.shape == (num,)
        assert (weights[:start] == 1).all()
        assert not weights[horizon:].any()
        assert (weights.diff() <= 0).all()
    assert not found["none"][start:].any()
    assert (found["full"][:horizon] == 1).all()
    assert (found["exponential"] <= found["linear"] + 1e-6).all()


def test_a_ramp_falls_in_even_steps_between_delay_and_horizon() -> None:
    close(Guided(horizon=3).weights(6, 1), torch.tensor([1, 2 / 3, 1 / 3, 0, 0, 0]))


def test_the_pull_is_strongest_on_pure_noise_and_never_above_its_limit() -> None:
    guided = Guided(limit=5.0)
    assert guided.strength(1.0) == guided.strength(0.95) == 5.0
    assert guided.strength(0.5) == pytest.approx(2.0)
    assert guided.strength(0.0) == 5.0  # nothing is left to move there


def flowing(kept: Kept, wanted: Tensor) -> Tensor:
    """Steps towards ``wanted`` from noise, pulled to the promise."""
    noise = torch.randn(2, 6, 3, generator=seeded())

    def velocity(x: Tensor, level: float) -> Tensor:
        x = kept.shown(x.reshape(noise.shape))
        return kept.velocity(x, (x - wanted) / level, level).flatten(1)

    return kept.shown(Euler(steps=10).solve(noise.flatten(1), velocity).reshape(noise.shape))


def test_guided_steps_go_to_the_promise_where_it_counts_and_on_their_way_where_it_does_not() -> None:
    wanted, promise = torch.zeros(2, 6, 3), torch.ones(2, 4, 3)
    promised = Promised(actions=promise, delay=2, keep=Guided(horizon=4))
    found = flowing(Kept.of(promised, promise, 6), wanted)
    gap = (found - 1).abs().mean(dim=(0, 2))
    assert (gap[:2] < 0.25).all()
    assert (gap[2:4] > gap[:2].max()).all()
    close(found[:, 4:], wanted[:, 4:], 1e-5)


def test_a_given_beginning_stands_still_at_level_zero() -> None:
    promise = torch.ones(2, 4, 3)
    kept = Kept.of(Promised(actions=promise, delay=2, keep=Given()), promise, 6)
    found = flowing(kept, torch.zeros(2, 6, 3))
    assert torch.equal(found[:, :2], promise[:, :2])
    assert kept.level(torch.full((2, 1), 0.5)).tolist() == [[0.0, 0.0, 0.5, 0.5, 0.5, 0.5]] * 2
    assert kept.rows(torch.tensor([1, 1, 0])).values.shape == (3, 6, 3)


def test_a_longer_promise_than_a_chunk_is_cut_and_a_shorter_one_counts_for_as_long_as_it_is() -> None:
    long, short = (Promised(actions=torch.ones(1, num, 3), delay=2, keep=Guided(horizon=10)) for num in (9, 3))
    assert Kept.of(long, long.actions, 6).num == 6
    kept = Kept.of(short, short.actions, 6)
    pulled = kept.velocity(torch.zeros(1, 6, 3), torch.zeros(1, 6, 3), 1.0)
    assert pulled[:, :3].all()
    assert not pulled[:, 3:].any()


def test_a_guided_policy_begins_nearer_to_what_was_promised() -> None:
    policy = fresh(recipe("pi0"))  # with all its steps: each one leads nearer
    obs, memory = nano_batch(policy.recipe).obs, policy.start(2)
    promise = policy.space.clamp(torch.full((2, 8, 4), 0.02))
    promised = Promised(actions=promise, delay=2, keep=Guided(horizon=4))
    plain, kept = (
        policy.act(obs, memory, generator=seeded(), promised=told)[0].values - promise[:, :1]
        for told in (None, promised)
    )
    assert kept[:, :2].abs().mean() < 0.5 * plain[:, :2].abs().mean()


@pytest.mark.parametrize("delay", [-1, 4])
def test_a_delay_that_the_promise_does_not_cover_is_refused(delay: int) -> None:
    with pytest.raises(InputError, match="0 to 3, the number of promised actions"):
        Promised(actions=torch.zeros(1, 3, 4), delay=delay, keep=Given())


@pytest.mark.parametrize(("name", "said"), [("pi0", "at most 0 steps"), ("baseline_ki", "at most 4 steps")])
def test_a_policy_is_given_no_more_than_training_gave_it(name: str, said: str) -> None:
    policy = policy_of(name)
    promised = Promised(actions=torch.zeros(2, 8, 4), delay=5, keep=Given())
    with pytest.raises(InputError, match=said):
        policy.act(nano_batch(policy.recipe).obs, policy.start(2), generator=seeded(), promised=promised)


def test_a_policy_whose_actions_are_frames_keeps_no_promise() -> None:
    policy = policy_of("cosmos_policy")
    promised = Promised(actions=torch.zeros(2, 8, 4), delay=1, keep=Guided())
    with pytest.raises(InputError, match="token by token"):
        policy.act(nano_batch(policy.recipe).obs, policy.start(2), generator=seeded(), promised=promised)
