"""What `crossroads audit` finds of faults planted by `plant_faults.py`: each kind, mild and strong, as a table.

    python examples/audit_limits.py data/metaworld --seeds 3 --first-seed 100 --work copies

Three copies are made for each seed and dose, each with three or four kinds of fault in different episodes. A planted
place counts as found when a finding of its kind names its episode and, where it has frames, overlaps them within 2
frames. A false alarm is a finding's place in an episode in which nothing was planted, unless the audit of the sound
source names it as well; other kinds named in planted episodes are told apart.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from plant_faults import DOSES, Planted, plant
from tqdm import tqdm

from crossroads.data.audit import Audit, audit
from crossroads.data.findings import Finding

COPIES = (
    ("stuck-camera", "gripper-polarity", "teleport", "duplicate"),
    ("desync-camera", "sign-flip", "out-of-range"),
    ("change-point", "dropped-frames", "static"),
)
SLACK = 2

Place = tuple[int, tuple[int, int] | None]
"""An episode, and its frames (None for the whole of it)."""


def places(it: Finding | Planted) -> list[Place]:
    """Where a finding, or a planted fault, is."""
    return list(zip(it.episodes, it.frames or (None,) * len(it.episodes), strict=True))


def found_of(one: Planted, found: Audit) -> int:
    """How many of the planted places a finding of the same kind names."""
    same = [place for it in found.findings if it.kind == one.kind for place in places(it)]
    return sum(any(_meet(place, other) for other in same) for place in places(one))


def _meet(a: Place, b: Place) -> bool:
    if a[0] != b[0] or a[1] is None or b[1] is None:
        return a[0] == b[0]
    return a[1][0] <= b[1][1] + SLACK and b[1][0] <= a[1][1] + SLACK


def others(planted: Sequence[Planted], found: Audit, sound: Audit) -> tuple[list[str], list[str]]:
    """False alarms, and what else is said of planted episodes; leakage is a property of the whole recording."""
    known = {(it.kind, index) for it in sound.findings for index in it.episodes}
    truth = {(one.kind, index) for one in planted for index in one.episodes}
    touched = {index for _, index in truth}
    named = {(it.kind, index) for it in found.findings if it.kind != "leakage" for index in it.episodes} - known - truth
    alarms = sorted(f"{kind} in {index}" for kind, index in named if index not in touched)
    return alarms, sorted(kind for kind, index in named if index in touched)


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} ({num})" for name, num in sorted(Counter(names).items())) or "none"


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("source", type=Path)
    reader.add_argument("--seeds", type=int, default=3)
    reader.add_argument("--first-seed", type=int, default=0)
    reader.add_argument("--work", type=Path, required=True, help="folder for the copies, each removed after use")
    arguments = reader.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    sound = audit(arguments.source)
    print(f"sound source: {_counted(it.kind for it in sound.findings)}\n")
    hits: Counter[tuple[str, str]] = Counter()
    totals: Counter[tuple[str, str]] = Counter()
    missed: list[str] = []
    alarms: dict[str, list[str]] = {dose: [] for dose in DOSES}
    also: dict[str, list[str]] = {dose: [] for dose in DOSES}
    seconds: list[float] = []
    bar = tqdm(total=len(DOSES) * arguments.seeds * len(COPIES), unit="copy")
    for dose in DOSES:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for number, faults in enumerate(COPIES):
                copy = arguments.work / f"{dose}-{seed}-{number}"
                planted = plant(arguments.source, copy, [f"{fault}:{dose}" for fault in faults], seed=seed)
                start = time.perf_counter()
                found = audit(copy)
                seconds.append(time.perf_counter() - start)
                for one in planted:
                    hit = found_of(one, found)
                    hits[one.fault, dose] += hit
                    totals[one.fault, dose] += len(one.episodes)
                    if hit < len(one.episodes):
                        missed.append(f"{one.fault} ({dose}), seed {seed}: {hit} of {len(one.episodes)}; {one.what}")
                wrong, else_said = others(planted, found, sound)
                alarms[dose] += [f"seed {seed}: {it}" for it in wrong]
                also[dose] += else_said
                bar.update()
                bar.set_postfix_str(
                    f"{sum(hits.values())} of {sum(totals.values())} found, {sum(map(len, alarms.values()))} false"
                )
                shutil.rmtree(copy)
                copy.with_name(copy.name + ".planted.json").unlink()
    bar.close()
    print("| fault | mild: places planted | found | strong: places planted | found |\n|---|--:|--:|--:|--:|")
    for fault in (fault for faults in COPIES for fault in faults):
        print(f"| {fault} | " + " | ".join(f"{totals[fault, dose]} | {hits[fault, dose]}" for dose in DOSES) + " |")
    for dose in DOSES:
        print(f"\nfalse alarms, {dose}, in {arguments.seeds * len(COPIES)} copies: {_counted(alarms[dose])}")
        print(f"other kinds named in planted episodes, {dose}: {_counted(also[dose])}")
    print("\nmissed:\n" + "\n".join(f"- {it}" for it in missed or ["nothing"]))
    print(f"\nseconds an audit: {min(seconds):.0f} to {max(seconds):.0f}")


if __name__ == "__main__":
    main()
