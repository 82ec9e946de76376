"""The tables of `loader.py`, from its JSON: `python benchmarks/loader_table.py results/data-engine/loader.json`."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ("cached", "first epoch", "direct", "pool")
GOALS = {"cached": 10.0, "first epoch": 2.0, "direct": 1.5, "pool": 1.5}
LEROBOT = {"strong": "LeRobot 0.6.1, uint8", "weak": "LeRobot 0.4.4, float32"}


def write_table(told: dict[str, Any], peers: list[str], repeat: int) -> str:
    """Samples per second with ratios; then the first batch, memory and processor time."""
    cells = told["cells"]
    shares = [run["others"] for cell in cells for runs in cell["arms"].values() for run in runs]
    lines = [
        f"`{told['command']}`",
        "",
        f"{told['machine']['cores']} cores of {told['machine']['processor']}; medians of {repeat}; others took "
        f"{100 * statistics.median(shares):.0f} % of the processors (median over runs; at most "
        f"{100 * max(shares):.0f} %). In every arm, the bytes of {cells[0]['compared']} samples per cell "
        "are those of a plain decode.",
        "",
        "Samples per second; in brackets, times the strong peer.",
        "",
    ]
    lines += _rows(
        cells,
        [*(LEROBOT[peer] for peer in peers), "ours, cached", "ours, first epoch", "ours, uncached", "ours, in pools"],
        lambda cell: [
            *(f"{best(cell, peer):.0f}" for peer in peers),
            *(f"{median(cell, arm, 'samples_per_s'):.0f} ({ratio(cell, arm):.1f}x)" for arm in OURS),
        ],
    )
    lines += ["", "Seconds to the first batch, without imports.", ""]
    lines += _rows(cells, *_columns(peers, "first_batch_s", "{:.2f}"))
    lines += ["", "Greatest memory of all processes in MB, without pages of files; with them in brackets.", ""]
    lines += _rows(
        cells,
        _names(peers),
        lambda cell: [
            f"{median(cell, arm, 'memory_mb'):.0f} ({median(cell, arm, 'with_files_mb'):.0f})"
            for arm in _arms(cell, peers)
        ],
    )
    lines += ["", "Processor time per sample in ms (peers in their own process).", ""]
    alone = [f"{peer}, 0 workers" for peer in peers]
    lines += _rows(
        cells,
        _names(peers),
        lambda cell: [f"{median(cell, arm, 'processor_ms_per_sample'):.2f}" for arm in (*alone, *OURS)],
    )
    same = statistics.median(run["same_episode"] for cell in cells for run in cell["arms"]["pool"])
    lines += [
        "",
        "In pools, the windows of 16 episodes are mixed: two samples of a batch are of one episode in "
        f"{100 * same:.1f} % of cases ({100 / told['episodes']:.1f} % where all windows are shuffled).",
    ]
    missed = [
        f"{arm} {cell['cameras']} x {cell['size']}, {cell['future']} later: {ratio(cell, arm):.2f}x of {goal:g}x"
        for arm, goal in GOALS.items()
        for cell in cells
        if ratio(cell, arm) < goal
    ]
    lines += ["", f"Below the goal: {'; '.join(missed) or 'nothing'}.", ""]
    return "\n".join(lines)


def median(cell: dict[str, Any], arm: str, name: str) -> float:
    """Of the runs of an arm."""
    return statistics.median(run[name] for run in cell["arms"][arm])


def best(cell: dict[str, Any], peer: str) -> float:
    """Samples per second of a peer, in its process or with workers, whichever is more."""
    return max(median(cell, f"{peer}, {workers} workers", "samples_per_s") for workers in (0, 2))


def ratio(cell: dict[str, Any], arm: str) -> float:
    """Ours over the strong peer."""
    return median(cell, arm, "samples_per_s") / best(cell, "strong")


def _arms(cell: dict[str, Any], peers: list[str]) -> list[str]:
    """For each peer the faster way to run it, then ours."""
    ways = [[f"{peer}, {workers} workers" for workers in (0, 2)] for peer in peers]
    return [*(max(way, key=lambda arm: median(cell, arm, "samples_per_s")) for way in ways), *OURS]


def _names(peers: list[str]) -> list[str]:
    return [*(LEROBOT[peer] for peer in peers), "cached", "first epoch", "uncached", "pools"]


def _columns(peers: list[str], name: str, form: str) -> tuple[list[str], Callable[[dict[str, Any]], list[str]]]:
    return _names(peers), lambda cell: [form.format(median(cell, arm, name)) for arm in _arms(cell, peers)]


def _rows(cells: list[dict[str, Any]], names: list[str], values: Callable[[dict[str, Any]], list[str]]) -> list[str]:
    lines = ["| cameras, pixels, later pictures | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for cell in cells:
        place = f"{cell['cameras']} x {cell['size']}, {cell['future']}"
        lines.append(f"| {place} | " + " | ".join(values(cell)) + " |")
    return lines


if __name__ == "__main__":
    read = json.loads(Path(sys.argv[1]).read_text())
    arms = read["cells"][0]["arms"]
    print(write_table(read, [peer for peer in LEROBOT if f"{peer}, 0 workers" in arms], len(arms["cached"])))
