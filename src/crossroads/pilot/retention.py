"""``crossroads language``: right answers of trained policies, and of the language model that they all started from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from crossroads.backbones.load import SHIPPED, load_weights_of
from crossroads.backbones.retention import Graded, graded, language_of
from crossroads.build import build
from crossroads.data.check import require_sound
from crossroads.data.language import QuestionBatches
from crossroads.data.lerobot import LeRobotDataset
from crossroads.evaluate.statistics import Interval, mcnemar_exact, paired_counts, wilson
from crossroads.pilot.single import restore
from crossroads.storage import appearing

UNTOUCHED = "before any robot data"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One policy's right answers among questions of one form."""

    arm: str
    kind: str
    right: int
    questions: int
    interval: Interval
    """Wilson's, over questions; what another training run would answer is not in it."""
    p_value: float | None
    """McNemar's exact test against the untouched language model on the same questions; None for that one itself."""


def ask(runs: Sequence[Path], data: Path, *, num: int) -> tuple[Answered, ...]:
    """The untouched language model, then every run, on the same questions.

    Raises:
        InputError: a run does not stand on the shipped language model, or the data set holds no questions.
    """
    require_sound(data)
    dataset = LeRobotDataset.open(data)
    policies = {str(run): restore(run) for run in runs}
    models = {name: language_of(policy) for name, policy in policies.items()}
    first = next(iter(models.values()))
    untouched = build(first.recipe, dataset.space, seed=0)
    load_weights_of(untouched, SHIPPED)
    source = QuestionBatches.of(dataset, first.recipe.window, batch_size=1, seed=0)
    before = graded(untouched, source, num)
    found = [*_rows(UNTOUCHED, before, None)]
    for name, model in models.items():
        found += _rows(name, graded(model, source, num), before)
    return tuple(found)


def _rows(arm: str, found: Graded, before: Graded | None) -> list[Answered]:
    rows = []
    for kind in sorted(set(found.kinds)):
        right = found.of_kind(kind)
        p_value = None
        if before is not None:
            counts = paired_counts(np.array(right), np.array(before.of_kind(kind)))
            p_value = mcnemar_exact(counts.both, counts.only_a, counts.only_b, counts.neither)
        hits = sum(right)
        rows.append(
            Answered(
                arm=arm,
                kind=kind,
                right=hits,
                questions=len(right),
                interval=wilson(hits, len(right)),
                p_value=p_value,
            )
        )
    return rows


def answers_text(found: Sequence[Answered]) -> str:
    """A line for each policy and form of question."""
    width = max(len(row.arm) for row in found) + 2
    return "\n".join(
        f"{row.arm:{width}}{row.kind:12}{row.right / row.questions:5.0%} "
        f"[{row.interval.low:.0%}, {row.interval.high:.0%}] of {row.questions}"
        + ("" if row.p_value is None else f", p {row.p_value:.2g} against before")
        for row in found
    )


def write_answers(found: Sequence[Answered], out: Path) -> Path:
    """The same as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with appearing(out) as draft:
        draft.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n", encoding="utf-8")
    return out
