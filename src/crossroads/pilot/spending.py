"""What a pilot will spend and what it has spent: the budget laid over a profile's cells, and its account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from crossroads.cost.price import Device
from crossroads.pilot.budget import Budget, Training, compare, gap_between, scaled, spend
from crossroads.pilot.plan import Profile, fit
from crossroads.pilot.study import Amounts, BudgetTable
from crossroads.pilot.verdict import Guard
from crossroads.recipes.catalogue import recipe
from crossroads.space import ActionSpace


def with_budget(
    plan: Profile,
    budget: Budget,
    *,
    sizes: Sequence[int],
    space: ActionSpace,
    cameras: tuple[str, ...],
    device: Device,
) -> tuple[Profile, BudgetTable]:
    """The profile with every arm's steps set by the budget, and the plan as a table; refuses arms that are not equal.

    ``sizes`` are the numbers of labels that the data can give. The control is outside the comparison and keeps its
    steps, and so do the cells of the plateau check, which are not part of any arm's budget. Where whole networks train,
    which parts of a backbone stay frozen is the published design's (the text encoder of a WAM, of a VLA nothing): then
    parameters are stated and, unless asked for, not matched.
    """
    if plan.phase == "full" and not budget.match and not budget.given:
        budget = replace(budget, match=("samples", "steps"))
    steps: list[tuple[str, int, int]] = []
    planned: dict[str, Amounts] = {}
    for arm in plan.arms:
        found = scaled(_trainings(plan, arm, sizes, space, cameras), budget, device, arm)
        planned[arm] = spend(found, device)
        steps += [(arm, size, training.steps) for size, training in zip(sizes, found, strict=False)]
    table = compare(planned, budget, device)
    return replace(plan, arm_steps=tuple(steps) if budget.given else ()), table


def _trainings(
    plan: Profile, arm: str, sizes: Sequence[int], space: ActionSpace, cameras: tuple[str, ...]
) -> tuple[Training, ...]:
    """One per seed and number of labels, sizes innermost."""
    sized = fit(recipe(arm), space, cameras)
    return tuple(
        Training(
            recipe=sized,
            phase=plan.phase,
            steps=plan.steps_of(arm, size, largest=max(sizes)),
            batch_size=plan.batch_size,
        )
        for _ in plan.seeds
        for size in sizes
    )


def accounted(table: BudgetTable, results: Sequence[Mapping[str, Any]], flops: Mapping[str, float]) -> BudgetTable:
    """The table with what each arm's finished cells took; ``flops`` by arm, counted for the samples they saw."""
    rows = []
    for row in table.rows:
        own = [result for result in results if result["arm"] == row.arm and not result["doubled"]]
        seconds = sum(result["train_seconds"] for result in own)
        rate = row.planned.money / row.planned.device_hours if row.planned.money and row.planned.device_hours else None
        spent = Amounts(
            samples=sum(result["samples"] for result in own),
            steps=sum(result["steps"] for result in own),
            flops=flops[row.arm],
            seconds=seconds,
            device_hours=seconds / 3600,
            money=None if rate is None else rate * seconds / 3600,
            parameters=max((result["trainable"] for result in own), default=0),
        )
        rows.append(replace(row, spent=spent))
    return replace(table, rows=tuple(rows))


def budget_guard(table: BudgetTable) -> Guard:
    """Fails when the account, not only the plan, is unequal in a currency that had to match."""
    spent = {row.arm: row.spent for row in table.rows if row.spent is not None}
    gaps = [gap for name in table.matched if (gap := gap_between(spent, name)) is not None]
    worst = max(gaps, key=lambda gap: gap.share, default=None)
    if worst is None:
        return Guard(name="budget", status="not checked", value=None, limit=None, note="nothing was accounted.")
    equal = ", ".join(name.replace("_", " ") for name in table.matched)
    if worst.share > table.tolerance:
        note = f"arms did not spend the same where they had to, in {worst}."
        return Guard(name="budget", status="fail", value=worst.share, limit=table.tolerance, note=note)
    note = f"Arms are within {table.tolerance:.0%} of each other in {equal}, as planned."
    return Guard(name="budget", status="pass", value=worst.share, limit=table.tolerance, note=note)
