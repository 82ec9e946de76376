"""What is noised together, and what some samples are given: coupled levels and modes of training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of, seeded
from nano_batch import nano_batch
from tiny_stage import tiny_recipe

from crossroads.errors import InputError
from crossroads.learner import Prepared
from crossroads.policy import StreamPolicy
from crossroads.stage import Mode

LEARNED = ("action", "future_state", "value", "video")


@pytest.fixture(scope="module")
def policy() -> StreamPolicy:
    return policy_of("cosmos_policy")


def prepared(policy: StreamPolicy, *modes: Mode, size: int = 8) -> Prepared:
    policy.enter(replace(policy.recipe.phases[0], modes=modes))
    return policy.prepare(nano_batch(policy.recipe, size=size), policy.groups(), seeded())


def test_coupled_streams_have_the_level_that_the_first_of_them_drew(policy: StreamPolicy) -> None:
    levels = prepared(policy).levels
    assert levels["action"].unique().numel() == 8
    for name in LEARNED:
        assert torch.equal(levels[name], levels["action"])
    apart = replace(policy.recipe, stage=replace(policy.recipe.stage, coupled=()))
    alone = StreamPolicy(apart, policy.net, policy.space)
    levels = alone.prepare(nano_batch(apart, size=8), policy.groups(), seeded()).levels
    assert not torch.equal(levels["video"], levels["action"])


def test_what_is_given_is_clean_at_level_zero_and_owes_nothing(policy: StreamPolicy) -> None:
    world = Mode(name="world model", share=0.5, given=("action",))
    value = Mode(name="value", share=0.25, given=("action", "video"))
    found = prepared(policy, world, value, size=64)
    given, batch = found.given, nano_batch(policy.recipe, size=64)
    assert given["action"].sum() > given["video"].sum() > 0
    assert bool((given["action"] | ~given["video"]).all())
    assert 0.6 < given["action"].float().mean() < 0.9
    for name in ("action", "video"):
        clean = policy.net.target(name, batch).values
        same = (found.latents[name].values == clean).flatten(1).all(dim=1)
        assert torch.equal(same, given[name])
        assert torch.equal(found.levels[name][:, 0] == 0, given[name])
    with torch.no_grad():
        part = prepared(policy, Mode(name="all", share=1.0, given=("action",)), size=2)
        losses = policy.losses(part, {}).terms
    assert losses["action"].tolist() == [0.0, 0.0]
    assert bool((losses["video"] > 0).all())


@pytest.mark.parametrize(
    "mode",
    [
        Mode(name="none", share=0.5, given=()),
        Mode(name="state", share=0.5, given=("state",)),
        Mode(name="much", share=1.5, given=("action",)),
        Mode(name="never", share=0.0, given=("action",)),
    ],
    ids=lambda mode: mode.name,
)
def test_modes_that_mean_nothing_are_refused(mode: Mode) -> None:
    recipe = tiny_recipe()
    with pytest.raises(InputError, match=f"mode {mode.name}"):
        replace(recipe, phases=(replace(recipe.phases[0], modes=(mode,)),)).validate()


@pytest.mark.parametrize("coupled", [(("state", "action"),), (("action",), ("action",))], ids=["no levels", "twice"])
def test_couplings_that_mean_nothing_are_refused(coupled: tuple[tuple[str, ...], ...]) -> None:
    recipe = tiny_recipe()
    with pytest.raises(InputError, match="coupled"):
        replace(recipe, stage=replace(recipe.stage, coupled=coupled)).validate()
