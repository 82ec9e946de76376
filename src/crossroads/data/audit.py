"""What a dataset will do to a policy, before anything is trained: faults, with episodes and frames, and indicators.

`data/check.py` says whether a dataset can be read; this says whether it should be trained on. The searches are in
`faults_in_numbers.py`, `faults_in_pictures.py`, `faults_in_timing.py` and `copies.py`; `indicators.py` adds what linear
read-outs can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crossroads.data.cache import FrameCache
from crossroads.data.check import require_sound
from crossroads.data.copies import duplicates
from crossroads.data.faults_in_numbers import change_points, out_of_range, teleports, wrong_signs
from crossroads.data.faults_in_pictures import Scene, odd_pictures
from crossroads.data.faults_in_timing import desynchronised
from crossroads.data.findings import IMPACT, Finding
from crossroads.data.indicators import STEPS, Indicators, leaks, measure, told
from crossroads.data.lerobot import Episode, LeRobotDataset

SIZE = 24
"""Pixels of a side at which pictures are compared."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Everything found."""

    path: Path
    num_episodes: int
    num_frames: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What could not be judged, and why."""
    indicators: Indicators

    def __str__(self) -> str:
        num = len(self.findings)
        head = f"{self.path}: {self.num_episodes} episodes, {self.num_frames} frames, {num} finding{'s' * (num != 1)}"
        return "\n".join([head, *(f"- {it}" for it in self.findings), *self.notes, *told(self.indicators)])

    def to_plain(self) -> dict[str, Any]:
        """All of it as JSON values; each finding carries its effect on a VLA and on a WAM."""
        findings = [
            asdict(finding) | dict(zip(("to_a_vla", "to_a_wam"), IMPACT[finding.kind], strict=True))
            for finding in self.findings
        ]
        return {
            "path": str(self.path),
            "num_episodes": self.num_episodes,
            "num_frames": self.num_frames,
            "findings": findings,
            "notes": list(self.notes),
            "indicators": asdict(self.indicators),
        }


def audit(path: str | Path, *, progress: bool = False) -> Audit:
    """Look at every frame (at 24 px) and every number of a sound dataset; ``progress`` shows how far it is.

    Raises:
        InputError: the dataset is not sound (`data/check.py` lists why).
    """
    require_sound(path)
    dataset = LeRobotDataset.open(path)
    cache = FrameCache.open(dataset, cameras=dataset.cameras, image_hw=(SIZE, SIZE))
    labelled = [episode for episode in dataset.episodes if not episode.action_free]
    scene = Scene.of(dataset, cache, labelled)
    free = [episode for episode in dataset.episodes if episode.action_free]
    results: list[Finding | str] = []
    searches: dict[str, Callable[[], Iterable[Finding | str]]] = {
        "out of range": lambda: out_of_range(dataset, labelled),
        "teleports": lambda: teleports(dataset, labelled),
        "signs and change points": lambda: _signs_and_changes(dataset, labelled),
        "duplicates": lambda: duplicates(dataset, cache, labelled, free),
        "pictures": lambda: odd_pictures(scene),
        "timing": lambda: desynchronised(scene, [it for it in results if isinstance(it, Finding)]),
    }
    with tqdm(total=len(searches) + STEPS, desc="audit", leave=False, disable=None if progress else True) as bar:
        for name, search in searches.items():
            bar.set_postfix_str(name)
            results += search()
            bar.update()
        bar.set_postfix_str("indicators")
        indicators = measure(dataset, cache, labelled, report=bar.update)
    results += leaks(indicators)
    return Audit(
        path=Path(path),
        num_episodes=len(dataset.episodes),
        num_frames=dataset.num_frames,
        findings=tuple(result for result in results if isinstance(result, Finding)),
        notes=tuple(result for result in results if isinstance(result, str)),
        indicators=indicators,
    )


def _signs_and_changes(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    """A wrong sign changes the mean as well: that is told once."""
    known: dict[int, set[int]] = {}
    for dim, finding in wrong_signs(dataset, labelled):
        known[dim] = set(finding.episodes)
        yield finding
    yield from change_points(dataset, labelled, known)
