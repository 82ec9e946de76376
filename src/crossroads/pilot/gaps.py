"""How well the predictability gap told who won, over the pilots that were run: a table, and no more than it can say.

Read are `report.json` files as plain JSON, of whatever generation: the gap is the offline layer's at its most labels,
the outcome is success of the best WAM arm less success of the VLA arm, in closed loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossroads.errors import InputError

ENOUGH = 8
"""Outcomes below which no correlation is worked out: at 7, one of 0.75 is needed before chance is left behind."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One pilot, at one number of labelled demonstrations."""

    path: Path
    data: str
    date: str
    gap: float | None
    """R2 of the actions given the true future less R2 given the present; None where it was not measured."""
    gap_labels: int | None
    labels: int | None
    best_wam: str | None
    difference: float | None
    """Success of the best WAM arm less that of the best VLA arm; None without a closed loop."""
    trials: int
    verdict: str
    """The status of the pilot's verdict, at the number of labels it was planned for; else 'not planned'."""


def read_outcomes(folders: Sequence[str | Path]) -> list[Outcome]:
    """Every `report.json` in these folders, each run once, one outcome per number of labels that both kinds met.

    Raises:
        InputError: a folder holds none, or a file is not a pilot's report.
    """
    found: dict[str, list[Outcome]] = {}
    for folder in map(Path, folders):
        files = sorted(folder.rglob("report.json")) if folder.is_dir() else []
        if not files:
            raise InputError(
                where=str(folder),
                expected="a folder with the report.json of a pilot somewhere in it",
                got="none" if folder.is_dir() else "no such folder",
                do="Run `crossroads pilot --out DIR` first, or name the folder of its report.",
            )
        for file in files:
            try:
                plain = json.loads(file.read_text(encoding="utf-8"))
                found.setdefault(str(plain["provenance"]["run_id"]), list(_outcomes(file, plain)))
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
                raise InputError(
                    where=str(file),
                    expected="the report of a pilot",
                    got=f"{type(error).__name__}: {error}",
                    do="Move other report.json files elsewhere, or make this report again.",
                ) from error
    return [outcome for outcomes in found.values() for outcome in outcomes]


def _outcomes(file: Path, plain: dict[str, Any]) -> Iterator[Outcome]:
    offline, origin = plain.get("offline") or {}, plain["provenance"]
    measured = max(offline.get("predictability") or [], key=lambda entry: entry["labels"], default=None)
    kinds = {arm["name"]: arm["kind"] for arm in plain["arms"]}
    curves = (plain.get("closed_loop") or {}).get("curves") or []
    planned = {(it["wam"], it["wam_success"]) for it in plain["verdict"]["comparisons"]}
    success: dict[int, dict[str, tuple[float, int]]] = {}
    for point in curves:
        share = (point["successes"] / point["trials"], int(point["trials"]))
        success.setdefault(int(point["labels"]), {})[point["arm"]] = share
    pairs = []
    for labels, arms in sorted(success.items()):
        best = {
            kind: max((name for name in arms if kinds[name] == kind), key=lambda name: arms[name][0], default=None)
            for kind in ("WAM", "VLA")
        }
        if best["WAM"] is not None and best["VLA"] is not None:
            pairs.append((labels, best["WAM"], arms[best["WAM"]], arms[best["VLA"]]))
    for labels, name, wam, vla in pairs or [(None, None, None, None)]:
        yield Outcome(
            path=file,
            data=str(origin["data"]),
            date=str(origin["date"]),
            gap=None if measured is None else measured["r2_future"] - measured["r2_present"],
            gap_labels=None if measured is None else int(measured["labels"]),
            labels=labels,
            best_wam=name,
            difference=None if wam is None or vla is None else wam[0] - vla[0],
            trials=0 if wam is None else wam[1],
            verdict=plain["verdict"]["status"] if wam is None or (name, wam[0]) in planned else "not planned",
        )


def gap_table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table, and one sentence on what it says about the gap as a predictor."""
    lines = [
        "| data | date | gap (R2, at labels) | labels | best WAM less VLA | scenes | verdict | report |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    for it in outcomes:
        gap = "-" if it.gap is None else f"{it.gap:+.2f} (at {it.gap_labels})"
        ahead = "-" if it.difference is None else f"{100 * it.difference:+.0f} points ({it.best_wam})"
        labels = "-" if it.labels is None else it.labels
        lines.append(
            f"| {it.data} | {it.date} | {gap} | {labels} | {ahead} | {it.trials or '-'} | {it.verdict} | {it.path} |"
        )
    return "\n".join([*lines, "", _said(outcomes)])


def _said(outcomes: Sequence[Outcome]) -> str:
    pairs = [(it.gap, it.difference) for it in outcomes if it.gap is not None and it.difference is not None]
    gaps = len({round(gap, 2) for gap, _ in pairs})
    if gaps < ENOUGH:
        return (
            f"{len(pairs)} outcomes with {gaps} different gap{'s' * (gaps != 1)}: too few to say whether the gap "
            f"predicts the winner; {ENOUGH} different gaps are needed for a correlation."
        )
    order = [np.argsort(np.argsort(np.array(column))) for column in zip(*pairs, strict=True)]
    rank = float(np.corrcoef(order[0], order[1])[0, 1])
    generator = np.random.default_rng(0)
    chance = [abs(np.corrcoef(order[0], generator.permutation(order[1]))[0, 1]) for _ in range(5000)]
    p = float(np.mean(np.array(chance) >= abs(rank) - 1e-12))
    sign = sum((gap > float(np.median([g for g, _ in pairs]))) == (ahead > 0) for gap, ahead in pairs)
    return (
        f"{len(pairs)} outcomes: rank correlation of gap and WAM's lead {rank:+.2f} (permutation p = {p:.2f}); "
        f"a gap above the median went with a WAM ahead, or below with a VLA ahead or level, in {sign} of {len(pairs)}."
    )
