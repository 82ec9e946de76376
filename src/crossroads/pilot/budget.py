"""The budget of a pilot as an object: stated before it is spent, equal between arms or refused, accounted afterwards.

An arm is a sum of trainings (a policy, an inverse model that labels for it, a video model that is tuned first): what is
matched are sums over all of them (evidence page, section 6). FLOPs come from the recipes alone; seconds, hours and
money are FLOPs over a stated rate, and are estimates until they are measured.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch

from crossroads.cores import device_name, training_device
from crossroads.cost.flops import flops, parameters
from crossroads.cost.price import Device
from crossroads.errors import InputError
from crossroads.pilot.study import Amounts, BudgetTable, Currency, Spend
from crossroads.recipe import Recipe

TEXT_TOKENS = 5
"""The usual number of words of an instruction; FLOPs are counted at it."""
CURRENCIES: tuple[Currency, ...] = get_args(Currency)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network that an arm trains in one cell."""

    recipe: Recipe
    phase: str
    steps: int
    batch_size: int
    beside: int = 0
    """Parameters that are trained beside the recipe's own (an inverse model's state reader)."""

    @property
    def parameters(self) -> int:
        return parameters(self.recipe).trained[self.phase] + self.beside

    @property
    def flops(self) -> float:
        """From cached features where the phase is ``head``, from raw data otherwise."""
        return float(self.steps * self.batch_size * _sample_flops(self.recipe, self.phase))


@functools.cache
def _sample_flops(recipe: Recipe, phase: str) -> int:
    spoken = {stream.name: TEXT_TOKENS for stream in recipe.stage.streams if stream.name == "text"}
    counted = flops(recipe, tokens=spoken)
    return (counted.train_cached if phase == "head" else counted.train)[phase].total


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What each arm may spend in all, in any of the currencies, and in which of them arms must be equal.

    A currency that is given sets the number of optimiser steps, by one factor for all cells of an arm; several given
    set the smallest. Nothing given leaves the profile's steps. What is given is always matched too.
    """

    samples: float | None = None
    steps: float | None = None
    flops: float | None = None
    seconds: float | None = None
    device_hours: float | None = None
    money: float | None = None
    price_per_hour: float | None = None
    """Of the training device, in US dollars; nothing is assumed."""
    match: tuple[Currency, ...] = ()
    """Empty: what is given, or samples, steps and parameters when nothing is (a pilot of whole networks: the first
    two)."""
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        for name, amount in self.given.items():
            if not 0 < amount < math.inf:
                raise InputError(
                    where=f"budget, {name}", expected="a positive amount", got=str(amount), do="Change the budget."
                )

    @property
    def given(self) -> dict[Currency, float]:
        """The stated amounts by currency."""
        found = {name: getattr(self, name) for name in CURRENCIES if name != "parameters"}
        return {name: amount for name, amount in found.items() if amount is not None}  # pyright: ignore[reportReturnType]

    @property
    def matched(self) -> tuple[Currency, ...]:
        chosen = {*self.match, *self.given} or {"samples", "steps", "parameters"}
        return tuple(name for name in CURRENCIES if name in chosen)


def spend(trainings: Sequence[Training], device: Device) -> Amounts:
    """What some trainings take together, estimated on a device; parameters once per network, steps summed over cells.

    Networks of one recipe and phase (the cells of an arm) are the same network trained again: their size counts once.
    """
    sizes = {(training.recipe.name, training.phase): training.parameters for training in trainings}
    total = sum(training.flops for training in trainings)
    hours = total / (device.peak_flop_per_s * device.utilisation) / 3600
    return Amounts(
        samples=sum(training.steps * training.batch_size for training in trainings),
        steps=sum(training.steps for training in trainings),
        flops=total,
        seconds=3600 * hours,
        device_hours=hours,
        money=None if device.price_per_hour is None else hours * device.price_per_hour,
        parameters=sum(sizes.values()),
    )


def scaled(trainings: Sequence[Training], budget: Budget, device: Device, arm: str) -> tuple[Training, ...]:
    """The arm's trainings with their steps changed by the one factor that exhausts the budget."""
    if not budget.given:
        return tuple(trainings)
    planned = spend(trainings, device)
    if budget.money is not None and planned.money is None:
        raise InputError(
            where="budget, money",
            expected="a price per hour of the training device",
            got="none",
            do="State it with --budget.price-per-hour; nothing is assumed.",
        )
    factor = min(amount / float(getattr(planned, name)) for name, amount in budget.given.items())
    changed = tuple(replace(training, steps=round(training.steps * factor)) for training in trainings)
    if any(training.steps < 1 for training in changed):
        raise InputError(
            where=f"budget of arm {arm!r}",
            expected="at least one optimiser step in every cell",
            got=f"{factor:.3g} of the profile's {planned.steps} steps over {len(trainings)} trainings",
            do="Raise the budget, or take fewer labels and seeds.",
        )
    return changed


def compare(planned: Mapping[str, Amounts], budget: Budget, device: Device) -> BudgetTable:
    """The plan as a table; raises when two arms differ by more than the tolerance in a matched currency."""
    for name in budget.matched:
        gap = gap_between(planned, name)
        if gap is not None and gap.share > budget.tolerance:
            raise InputError(
                where=f"budget, matched in {name.replace('_', ' ')}",
                expected=f"arms within {budget.tolerance:.0%} of each other",
                got=str(gap),
                do="Match other currencies (--match), or change the recipes' sizes or the budget.",
            )
    others: list[Currency] = [name for name in CURRENCIES if name not in budget.matched]
    gaps = [gap for name in others if (gap := gap_between(planned, name)) is not None]
    return BudgetTable(
        matched=budget.matched,
        tolerance=budget.tolerance,
        rows=tuple(Spend(arm=arm, planned=amounts, spent=None) for arm, amounts in planned.items()),
        unequal=tuple(str(gap) for gap in gaps if gap.share > budget.tolerance),
        rates=rates(device),
    )


def rates(device: Device) -> str:
    """Where the plan's seconds, hours and money come from."""
    speed = device.peak_flop_per_s * device.utilisation
    price = "no price stated"
    if device.price_per_hour is not None:
        price = f"{device.price_per_hour:g} {device.currency} per hour"
    return f"{device.name}: {speed / 1e9:,.3g} GFLOP/s at {device.utilisation:.0%} utilisation; {price}"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The two arms that differ most in a currency."""

    currency: str
    least: tuple[str, float]
    most: tuple[str, float]

    @property
    def share(self) -> float:
        return self.most[1] / max(self.least[1], 1e-300) - 1

    def __str__(self) -> str:
        (low, few), (high, many) = self.least, self.most
        return f"{self.currency.replace('_', ' ')}: {high} has {many:,.4g}, {low} {few:,.4g} ({self.share:.0%} more)"


def gap_between(planned: Mapping[str, Amounts], name: Currency) -> Gap | None:
    """None for a single arm, and for money without a price."""
    values = {arm: getattr(amounts, name) for arm, amounts in planned.items()}
    if len(values) < 2 or any(value is None for value in values.values()):
        return None
    ranked = sorted(values.items(), key=lambda item: item[1])
    return Gap(currency=name, least=ranked[0], most=ranked[-1])


def this_device(*, price_per_hour: float | None = None, utilisation: float = 0.25) -> Device:
    """What cells train on here, one thread or the GPU: the peak is the best of some matrix products, timed now."""
    where = training_device()
    size = 4096 if where == "cuda" else 512
    a = torch.randn(size, size, device=where)
    threads, best = torch.get_num_threads(), math.inf
    torch.set_num_threads(1)
    try:
        for _ in itertools.repeat(None, 12):
            started = time.perf_counter()
            torch.mm(a, a)[0, 0].item()  # the number is waited for
            best = min(best, time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return Device(
        name=device_name(where) if where == "cuda" else "one thread of this processor",
        peak_flop_per_s=2 * size**3 / best,
        utilisation=utilisation,
        price_per_hour=price_per_hour,
    )


def show(table: BudgetTable) -> str:
    """The plan, or plan and account, as text."""
    lines = [f"{'arm':24}" + "".join(f"{name.replace('_', ' '):>16}" for name in CURRENCIES)]
    for row in table.rows:
        for title, amounts in ((row.arm, row.planned), ("  spent", row.spent)):
            if amounts is not None:
                lines.append(f"{title:24}" + "".join(_cell(getattr(amounts, name)) for name in CURRENCIES))
    matched = ", ".join(name.replace("_", " ") for name in table.matched)
    lines.append(f"matched within {table.tolerance:.0%}: {matched}")
    lines += [f"not matched: {gap}" for gap in table.unequal]
    lines.append(f"seconds and hours are estimated at {table.rates}")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return f"{'-':>16}"
    return f"{value:>16,}" if isinstance(value, int) else f"{value:>16,.4g}"
