"""How long a dataset takes to open, what it keeps in memory and what a batch costs: a thousand to a million episodes.

    python benchmarks/index_scale.py results/data-engine/index_scale     # writes .json and .md; about three minutes

The datasets are LeRobot v3.0 folders with random numbers, short episodes and no pictures to be read (one camera of
feature type `image`, whose bytes are left away): opening, order and numbers are measured, not decoding. Each figure is
taken in a new process. A batch is 64 windows of 16 actions, drawn in the order that training uses.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MEAN_FRAMES, FPS, NUM_STATE, NUM_ACTIONS = 12, 10, 8, 7
EPISODES_PER_FILE, EPISODES_PER_TEXT = 100_000, 10
BATCH, STEPS = 64, 300


def write(path: Path, num_episodes: int) -> None:
    """A v3.0 folder of random numbers."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(MEAN_FRAMES // 2, MEAN_FRAMES * 3 // 2 + 1, num_episodes)
    ends = np.cumsum(lengths)
    vector = {"dtype": "float32", "names": None}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "synthetic",
        "fps": FPS,
        "total_episodes": num_episodes,
        "total_frames": int(ends[-1]),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {
            "observation.state": vector | {"shape": [NUM_STATE]},
            "action": vector | {"shape": [NUM_ACTIONS]},
            "observation.images.front": {"dtype": "image", "shape": [64, 64, 3], "names": None},
        },
    }
    (path / "meta/episodes/chunk-000").mkdir(parents=True)
    (path / "data/chunk-000").mkdir(parents=True)
    (path / "meta/info.json").write_text(json.dumps(info))
    num_texts = -(-num_episodes // EPISODES_PER_TEXT)
    texts = [f"bring the object number {index}" for index in range(num_texts)]
    pq.write_table(pa.table({"task_index": np.arange(num_texts), "task": texts}), path / "meta/tasks.parquet")
    episode = np.arange(num_episodes)
    rows = {
        "episode_index": episode,
        "tasks": [[texts[index // EPISODES_PER_TEXT]] for index in range(num_episodes)],
        "length": lengths,
        "data/chunk_index": np.zeros(num_episodes, np.int64),
        "data/file_index": episode // EPISODES_PER_FILE,
        "dataset_from_index": ends - lengths,
        "dataset_to_index": ends,
    }
    pq.write_table(pa.table(rows), path / "meta/episodes/chunk-000/file-000.parquet")
    for file, start in enumerate(range(0, num_episodes, EPISODES_PER_FILE)):
        own = episode[start : start + EPISODES_PER_FILE]
        of = np.repeat(own, lengths[own])
        frame = np.concatenate([np.arange(length) for length in lengths[own]])
        table = {
            "observation.state": _vectors(generator, len(of), NUM_STATE),
            "action": _vectors(generator, len(of), NUM_ACTIONS),
            "timestamp": (frame / FPS).astype(np.float32),
            "frame_index": frame,
            "episode_index": of,
            "task_index": of // EPISODES_PER_TEXT,
        }
        pq.write_table(pa.table(table), path / f"data/chunk-000/file-{file:03d}.parquet")


def _vectors(generator: np.random.Generator, rows: int, size: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(generator.normal(size=rows * size).astype(np.float32)), size)


def measure(path: Path) -> dict[str, float]:
    """Open and sample in this process."""
    from crossroads.data import index
    from crossroads.data.lerobot import LeRobotDataset
    from crossroads.data.order import Order, Share
    from crossroads.data.window import Windows
    from crossroads.types import NOTHING

    index.MAPPED_FROM_FRAMES = 0  # also the small ones, so that one thing is compared
    before_mb, started = resident_mb("VmHWM"), time.perf_counter()
    dataset = LeRobotDataset.open(path)
    open_s, opened_mb = time.perf_counter() - started, resident_mb("VmHWM")
    window = replace(NOTHING, num_state=NUM_STATE, num_actions=16, action_size=NUM_ACTIONS, control_hz=FPS)
    started = time.perf_counter()
    windows = Windows(dataset, window, episodes=np.arange(len(dataset.episodes)), cache=None)
    order = Order(num_samples=len(windows), seed=0)
    windows_s = time.perf_counter() - started
    costs: dict[str, list[float]] = {"order": [], "batch": [], "again": []}
    for step in range(STEPS):
        times = [time.perf_counter()]
        chosen = order.at(Share().positions(step, BATCH))
        times.append(time.perf_counter())
        for _ in range(2):  # the second time, no page of the mapped files is touched first
            windows.batch(chosen)
            times.append(time.perf_counter())
        for name, spent in zip(costs, np.diff(times), strict=True):
            costs[name].append(spent)
    return {
        "open_s": open_s,
        "windows_s": windows_s,
        "import_mb": before_mb,
        "open_mb": opened_mb,
        "own_mb": resident_mb("RssAnon"),
        "sampled_mb": resident_mb("VmHWM"),
        "order_us": float(np.median(costs["order"][STEPS // 2 :])) * 1e6,
        "batch_us": float(np.median(costs["batch"][STEPS // 2 :])) * 1e6,
        "again_us": float(np.median(costs["again"][STEPS // 2 :])) * 1e6,
    }


def resident_mb(name: str) -> float:
    """A line of /proc/self/status: VmHWM is the most that was resident, RssAnon what is not a mapped file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {name} in /proc/self/status")


def run(path: Path, cache: Path) -> dict[str, float]:
    environment = os.environ | {"CROSSROADS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(path)], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def table(rows: list[dict[str, float]]) -> str:
    """The figures as a table in Markdown."""
    head = "| episodes | frames | compiled once, s | open, s | most memory, MB | of it imports | own memory, MB |"
    lines = [f"{head} order of a batch, us | its numbers, us | again, us |", "|--:" * 10 + "|"]
    for row in rows:
        lines.append(
            f"| {row['episodes']:,.0f} | {row['frames']:,.0f} | {row['compile_s']:.2f} | {row['open_s']:.3f} "
            f"| {row['open_mb']:.0f} | {row['import_mb']:.0f} | {row['own_mb']:.0f} "
            f"| {row['order_us']:.0f} | {row['batch_us']:.0f} | {row['again_us']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", nargs="?", type=Path, help="where to write OUT.json and OUT.md")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return
    rows = []
    for size in asked.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path, cache = Path(folder) / "data", Path(folder) / "cache"
            write(path, size)
            frames = json.loads((path / "meta/info.json").read_text())["total_frames"]
            compiled = run(path, cache)
            repeats = [run(path, cache) for _ in range(3)]
            row = {
                "episodes": size,
                "frames": frames,
                "compile_s": compiled["open_s"],
                "compile_mb": compiled["open_mb"],
            }
            rows.append(row | {name: float(np.median([one[name] for one in repeats])) for name in repeats[0]})
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if asked.out:
        where = {"python": platform.python_version(), "cores": os.cpu_count(), "processor": platform.machine()}
        asked.out.with_suffix(".json").write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")
        asked.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
