"""What the properties of every recipe share: policies built once, one prepared batch, and its gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import torch
from nano_batch import ROBOT, nano_batch
from torch import Tensor

from crossroads.build import build
from crossroads.learner import Prepared
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import RECIPES
from crossroads.schedule import Branch, Decode, Denoise, Rank
from crossroads.solvers import Euler, Undoing
from crossroads.streams import Corrupted
from crossroads.towers.gemma import AdaptiveNorm
from crossroads.types import Batch, Observation

MOST = 12
"""Tokens that are written in tests."""
REMEMBERING = [name for name, make in RECIPES.items() if make().stage.by_block]


def brief(name: str) -> Recipe:
    """A recipe that writes few tokens, weighs two candidates and takes three steps where it would take more, two in
    each leg of several: none of its properties hang on how many."""
    recipe, fewer = RECIPES[name](), {}
    most = 3 if sum(isinstance(leg, Denoise) for leg in recipe.stage.schedule) == 1 else 2
    searches = any(isinstance(leg, Rank) and leg.best > 1 for leg in recipe.stage.schedule)
    for index, leg in enumerate(recipe.stage.schedule):
        if isinstance(leg, Decode):
            fewer[f"stage.schedule.{index}.max_tokens"] = min(recipe.stage.most_written(leg), MOST)
        elif isinstance(leg, Branch) and not searches:
            fewer[f"stage.schedule.{index}.num"] = min(leg.num, 2)
        elif isinstance(leg, Denoise) and leg.skipping is None:
            fewer[f"stage.schedule.{index}.solver.steps"] = min(leg.solver.steps, most)
    return recipe.vary(fewer)


@cache
def policy_of(name: str) -> StreamPolicy:
    """A policy that no test changes but for its phase."""
    return fresh(brief(name))


@torch.no_grad()
def fresh(recipe: Recipe) -> StreamPolicy:
    """A policy whose gates are open: norms that are told the level start as if there were nothing behind them."""
    policy, generator = build(recipe, ROBOT, seed=1), seeded()
    for module in policy.net.modules():
        if isinstance(module, AdaptiveNorm):
            module.told.weight.normal_(std=0.1, generator=generator)
            module.told.bias.normal_(std=0.3, generator=generator)
    for name, weight in policy.net.named_parameters():
        if ".modulators." in name or (".controlnet." in name and not bool(weight.any())):
            weight.normal_(std=0.1, generator=generator)
    return policy


@cache
def hasty(name: str) -> StreamPolicy:
    """The same whose streams move in one step."""
    recipe = brief(name)
    legs = {i: leg for i, leg in enumerate(recipe.stage.schedule) if isinstance(leg, Denoise)}
    quick = {
        f"stage.schedule.{i}.solver": replace(leg.solver, steps=1)
        if isinstance(leg.solver, Undoing)
        else Euler(steps=1)
        for i, leg in legs.items()
    }
    return build(recipe.vary(quick), ROBOT, seed=1)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(ours: Tensor, reference: Tensor, tolerance: float = 2e-5) -> None:
    """Equal up to rounding, relative to the largest entry."""
    torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance * max(1.0, reference.abs().max().item()))


def part_of(prepared: Prepared, names: Iterable[str], rows: slice = slice(None)) -> Prepared:
    """Some groups and some samples of a prepared batch."""
    names = set(names)

    def few(owed: Corrupted) -> Corrupted:
        return Corrupted(latent=owed.latent[rows], level=owed.level[rows], target=owed.target[rows])

    return Prepared(
        latents={name: latent.rows(rows) for name, latent in prepared.latents.items() if name in names},
        levels={name: level[rows] for name, level in prepared.levels.items() if name in names},
        owed={name: few(owed) for name, owed in prepared.owed.items() if name in names},
        given={name: given[rows] for name, given in prepared.given.items()},
    )


def prepared_batch(policy: StreamPolicy, size: int = 2) -> Prepared:
    return policy.prepare(nano_batch(policy.recipe, size=size), policy.groups(), seeded())


def gradients(policy: StreamPolicy, prepared: Prepared) -> dict[str, Tensor | None]:
    policy.zero_grad(set_to_none=True)
    policy.losses(prepared, {}).total.mean().backward()
    found = {name: parameter.grad for name, parameter in policy.named_parameters()}
    policy.zero_grad(set_to_none=True)
    return found


def moments(policy: StreamPolicy, batch: Batch) -> list[Observation]:
    """A recorded window as its robot would have lived it: an observation at the start of each block."""
    per_block = len(policy.recipe.chunk.future_s)
    found = [batch.obs]
    for block, start in enumerate(range(0, len(policy.recipe.window.future_s) - per_block, per_block)):
        passed = {name: frames[:, start : start + per_block] for name, frames in batch.future.items()}
        images = {name: frames[:, -1] for name, frames in passed.items()}
        state = batch.later_state[:, block] if policy.recipe.window.later_state_s else batch.obs.state
        found.append(replace(batch.obs, images=images, state=state, passed=passed))
    return found
