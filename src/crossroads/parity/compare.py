"""What our network gives against what was recorded: one row per recorded output, none left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crossroads.parity.case import GoldenCase, Tolerance


@dataclass(frozen=True, kw_only=True)
class Produced:
    """Our outputs under the recorded names and in the recorded shapes.

    ``counts``: of an output, the entries that anybody reads, true = compare (broadcast); all of them when not given.
    ``tolerances``: where a recording states one in words that only the system's own runner can read.
    """

    outputs: Mapping[str, Tensor]
    counts: Mapping[str, Tensor] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One recorded output. ``error``: the largest absolute error; ``ratio``: the largest error over its tolerance."""

    name: str
    shape: tuple[int, ...]
    error: float | None
    ratio: float | None
    verdict: str

    @property
    def ok(self) -> bool:
        return self.verdict.startswith("ok")


def compare(case: GoldenCase, produced: Produced) -> tuple[Compared, ...]:
    """Every recorded output against ours, in the order of their names."""
    return tuple(_compared(case, name, produced) for name in sorted(case.outputs))


def _compared(case: GoldenCase, name: str, produced: Produced) -> Compared:
    recorded = case.outputs[name]
    shape = tuple(recorded.shape)

    def row(verdict: str, error: float | None = None, ratio: float | None = None) -> Compared:
        return Compared(name=name, shape=shape, error=error, ratio=ratio, verdict=verdict)

    if name not in produced.outputs:
        return row("not produced")
    ours = produced.outputs[name]
    if tuple(ours.shape) != shape:
        return row(f"BEYOND: ours has the shape {_by(tuple(ours.shape))}")
    ours, wanted = ours.double(), recorded.double()
    allowed = produced.tolerances.get(name) or case.tolerance_of(name)
    error = torch.where(ours == wanted, 0.0, (ours - wanted).abs())  # equal infinities do not differ
    ratio = torch.where(error == 0, 0.0, error / (allowed.absolute + allowed.relative * wanted.abs()))
    counts = produced.counts.get(name, torch.tensor(True)).expand(shape)
    if counts.numel() and not counts.any():
        return row("BEYOND: no entry can be compared")
    if not counts.numel():
        return row("ok, empty", 0.0, 0.0)
    largest = ratio[counts].max().item()  # not a number, if one of them is not
    said = "" if counts.all() else f", of {int(counts.sum())} entries that are read"
    return row(("ok" if largest <= 1 else "BEYOND") + said, error[counts].max().item(), largest)


def table(rows: Sequence[Compared]) -> str:
    """The comparison for people: one line per output, then how many of them are within their tolerance."""
    width, across = max(len(row.name) for row in rows), max(len(_by(row.shape)) for row in rows)
    lines = [f"{'output':{width}}  {'shape':>{across}}  {'max error':>9}  error / tolerance"]
    for row in rows:
        numbers = "" if row.error is None or row.ratio is None else f"{row.error:9.2e}  {row.ratio:17.4f}"
        lines.append(f"{row.name:{width}}  {_by(row.shape):>{across}}  {numbers:28}  {row.verdict}")
    good = sum(row.ok for row in rows)
    missing = sum(row.verdict == "not produced" for row in rows)
    lines.append(f"\n{good} of {len(rows)} outputs within tolerance" + (f", {missing} not produced" if missing else ""))
    return "\n".join(lines)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "number"
