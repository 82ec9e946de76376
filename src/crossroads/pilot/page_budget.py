"""What was held equal between the arms, and the plan of each arm beside its account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossroads.pilot.report import Arm, Budget, Report
from crossroads.pilot.study import Amounts, BudgetTable
from crossroads.pilot.words import count, flops, seconds, signed

TOLERANCE = 0.05
"""Arms within this relative distance of each other count as held equal."""


@dataclass(frozen=True, kw_only=True)
class HeldRow:
    """One quantity over all arms, and whether the compared arms have the same."""

    name: str
    cells: tuple[str, ...]
    remark: str
    equal: bool


_HELD: tuple[tuple[str, Callable[[Budget], float], Callable[[float], str]], ...] = (
    ("labelled episodes", lambda b: b.labelled_episodes, lambda x: f"{x:,.0f}"),
    ("action-free episodes", lambda b: b.action_free_episodes, lambda x: f"{x:,.0f}"),
    ("trainable parameters", lambda b: b.trainable_parameters, lambda x: count(x)),
    ("total parameters", lambda b: b.total_parameters, lambda x: count(x)),
    ("optimiser steps", lambda b: b.optimiser_steps, lambda x: f"{x:,.0f}"),
    ("samples seen", lambda b: b.samples, lambda x: f"{x:,.0f}"),
    ("training compute", lambda b: b.training_flops, lambda x: flops(x)),
    ("control rate", lambda b: b.control_hz, lambda x: f"{x:g} Hz"),
)


def held_equal(budgets: Sequence[Budget], arms: Sequence[Arm]) -> tuple[HeldRow, ...]:
    """One row per quantity; the remark compares the VLA and WAM arms (controls may differ by design)."""
    compared = {arm.name for arm in arms if arm.kind != "control"}
    rows = []
    for name, value_of, shown in _HELD:
        values = [value_of(b) for b in budgets if b.arm in compared]
        low, high = min(values, default=0.0), max(values, default=0.0)
        if low == high:
            remark, equal = "equal", True
        elif low > 0 and high / low - 1 <= TOLERANCE:
            remark, equal = f"within {100 * (high / low - 1):.1f} %", True
        else:
            remark, equal = (f"differs, {high / low:.2f}\N{NO-BREAK SPACE}×" if low > 0 else "differs"), False  # noqa: RUF001
        rows.append(HeldRow(name=name, cells=tuple(shown(value_of(b)) for b in budgets), remark=remark, equal=equal))
    return tuple(rows)


IN_PLAN = frozenset({"trainable parameters", "optimiser steps", "samples seen", "training compute"})
"""Quantities that the plan and account show too; the page prints them once."""


def differing(report: Report) -> tuple[str, ...]:
    """The quantities in which the compared arms differ, in words."""
    held = held_equal(report.budgets, report.arms)
    if report.budget is not None:
        held = tuple(row for row in held if row.name not in IN_PLAN)
    rest = report.budget.unequal if report.budget is not None else ()
    return (*rest, *(f"{row.name} ({row.remark.removeprefix('differs, ')})" for row in held if not row.equal))


@dataclass(frozen=True, kw_only=True)
class Column:
    """One currency."""

    title: str
    matched: bool


@dataclass(frozen=True, kw_only=True)
class SpendRow:
    """One arm in every currency, as text; ``beside`` says how far the account is from the plan, from 0.5 % on."""

    arm: str
    planned: tuple[str, ...]
    spent: tuple[str, ...] | None
    beside: tuple[str, ...]


_CURRENCIES: tuple[tuple[str, str, Callable[[Amounts], float | None], Callable[[float], str]], ...] = (
    ("samples", "samples", lambda a: a.samples, lambda x: f"{x:,.0f}"),
    ("steps", "steps", lambda a: a.steps, lambda x: f"{x:,.0f}"),
    ("flops", "compute", lambda a: a.flops, lambda x: flops(x)),
    ("seconds", "wall clock", lambda a: a.seconds, lambda x: seconds(x)),
    ("device_hours", "device hours", lambda a: a.device_hours, lambda x: f"{x:.3g}"),
    ("money", "money", lambda a: a.money, lambda x: f"{x:.3g}"),
    ("parameters", "trained parameters", lambda a: a.parameters, lambda x: count(x)),
)


def columns(table: BudgetTable) -> tuple[Column, ...]:
    """The currencies in their order; money only where a rate was stated."""
    return tuple(Column(title=title, matched=key in table.matched) for key, title, _, _ in _shown(table))


def spending(table: BudgetTable) -> tuple[SpendRow, ...]:
    """One row per arm, with the deviation of the account from the plan."""
    found = []
    for row in table.rows:
        spent, beside = None, ()
        if row.spent is not None:
            spent = amounts(row.spent, table)
            pairs = [(value_of(row.planned), value_of(row.spent)) for _, _, value_of, _ in _shown(table)]
            beside = tuple(_deviation(planned, used) for planned, used in pairs)
        found.append(SpendRow(arm=row.arm, planned=amounts(row.planned, table), spent=spent, beside=beside))
    return tuple(found)


def amounts(given: Amounts, table: BudgetTable | None) -> tuple[str, ...]:
    """One text per shown currency; a dash where nothing is known. Without a table, all but money."""
    cells = ((value_of(given), shown) for _, _, value_of, shown in _shown(table))
    return tuple("\N{EN DASH}" if value is None else shown(value) for value, shown in cells)


def _shown(table: BudgetTable | None):
    rows = table.rows if table else ()
    priced = any(a is not None and a.money is not None for row in rows for a in (row.planned, row.spent))
    return [currency for currency in _CURRENCIES if priced or currency[0] != "money"]


def _deviation(planned: float | None, used: float | None) -> str:
    if planned is None or used is None:
        return ""
    if planned <= 0:
        return "" if used == planned else "not planned"
    percent = signed(100 * (used / planned - 1), 0)
    return "" if percent[1:] == "0" else f"{percent} %"
