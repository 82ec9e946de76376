"""How fast windows are served: ours against LeRobot's own loader, on the same files and the same windows.

    python benchmarks/loader.py --strong .../lerobot-0.6.1/bin/python --weak .../lerobot-0.4.4/bin/python

writes `results/data-engine/loader.md` and `.json`. LeRobot 0.6.1 serves uint8 (`return_uint8=True`), 0.4.4 can only
serve float32. Each peer is measured in its process and with two workers, and its better figure counts. The interpreters
are those of environments with LeRobot and torchcodec; where no FFmpeg is installed, torchcodec is given PyAV's. Every
arm runs in a process of its own with one thread for mathematics, and the arms of a cell follow one another, `--repeat`
times (cells that are done are kept under `--work`): medians are told, and how much of the processors others took
meanwhile. A sample has the observed picture of each camera, 2 or 9 later ones spread over the 16 steps of its action
chunk, and the chunk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from crossroads.data.lerobot import LeRobotDataset

HERE = Path(__file__).parent
NUM_ACTIONS = 16
CELLS = [(cameras, size, future) for size in (224, 128) for cameras in (1, 2) for future in (2, 9)]
OURS = ("cached", "first epoch", "direct", "pool")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is run and where."""

    peers: dict[str, str]
    work: Path
    episodes: int
    frames: int
    seconds: float
    repeat: int


def main() -> None:
    """Write the data, run the arms, compare the bytes, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environment = os.environ.get
    parser.add_argument("--strong", default=environment("CROSSROADS_LEROBOT_STRONG"), help="python with LeRobot 0.6.1")
    parser.add_argument("--weak", default=environment("CROSSROADS_LEROBOT_WEAK"), help="python with LeRobot 0.4.4")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "crossroads-loader-benchmark")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results/data-engine/loader")
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--cells", default="", help="as 2x224x9,1x128x2: cameras, size, later pictures; all if not given"
    )
    given = parser.parse_args()
    peers = {name: path for name, path in (("strong", given.strong), ("weak", given.weak)) if path}
    if "strong" not in peers:
        parser.error("--strong: the interpreter of an environment with LeRobot 0.6.1 is needed")
    cells = [tuple(map(int, cell.split("x"))) for cell in given.cells.split(",") if cell] or CELLS
    options = Options(
        peers=peers,
        work=given.work,
        episodes=given.episodes,
        frames=given.frames,
        seconds=given.seconds,
        repeat=given.repeat,
    )
    rows = [kept_cell(options, *cell) for cell in cells]
    named = {given.strong: "ENV_061/bin/python", given.weak: "ENV_044/bin/python"}
    words = [named.get(word, word) for word in sys.argv[1:]]
    told = {"command": " ".join(["python", "benchmarks/loader.py", *words]), "machine": machine()}
    told |= {"episodes": options.episodes, "frames": options.frames, "cells": rows}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(table(told, options))
    print(given.out.with_suffix(".md").read_text())


def kept_cell(options: Options, cameras: int, size: int, num_future: int) -> dict[str, Any]:
    """The figures of a cell, from a run that was cut off if it had come so far with the same settings."""
    settings = f"{options.episodes}x{options.frames}-{options.seconds:g}s-{options.repeat}-{'-'.join(options.peers)}"
    file = options.work / "cells" / f"{cameras}x{size}x{num_future}-{settings}.json"
    if not file.is_file():
        found = run_cell(options, cameras, size, num_future)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())


def run_cell(options: Options, cameras: int, size: int, num_future: int) -> dict[str, Any]:
    """All arms on one dataset, in turn, and one comparison of bytes."""
    folder = recorded(options, cameras, size)
    num = options.episodes * options.frames
    generator = np.random.default_rng(0)
    last = np.arange(1, 5) * options.frames - 1
    compared = sorted({*generator.integers(0, num, 12).tolist(), *last.tolist(), *(last - 5).tolist()})
    said = {
        "folder": str(folder),
        "cameras": cameras,
        "future": [round(NUM_ACTIONS * step / num_future) for step in range(1, num_future + 1)],
        "num_actions": NUM_ACTIONS,
        "batch_size": 8,
        "order": generator.permutation(num).tolist(),
        "warm_batches": 12,
        "seconds": options.seconds,
        "compared": compared,
        "cache": str(options.work / "cache"),
    }
    arms = [(name, workers) for name in options.peers for workers in (0, 2)]
    found: dict[str, list[dict[str, Any]]] = {}
    run_arm(options, said | {"arm": "cached", "seconds": 0.1}, None)  # the cache of the arm `cached`
    for _ in range(options.repeat):
        for name, workers in arms:
            key = f"{name}, {workers} workers"
            found.setdefault(key, []).append(run_arm(options, said | {"workers": workers}, options.peers[name]))
        for arm in OURS:
            with tempfile.TemporaryDirectory(dir=options.work) as empty:
                own = {"arm": arm} | ({"cache": empty} if arm == "first epoch" else {})
                found.setdefault(arm, []).append(run_arm(options, said | own, None))
    reference = [digest(folder, said, window) for window in compared]
    for arm, runs in found.items():
        for run in runs:
            if run.pop("digests") != reference:
                raise SystemExit(f"{arm}, {cameras} x {size}: a sample is not what the plain decode gives")
    rates = {arm: round(statistics.median(run["samples_per_s"] for run in runs), 1) for arm, runs in found.items()}
    print(f"{cameras} x {size}, {num_future} later pictures:", rates, flush=True)
    return {"cameras": cameras, "size": size, "future": num_future, "compared": len(compared), "arms": found}


def recorded(options: Options, cameras: int, size: int) -> Path:
    """A dataset that LeRobot 0.6.1 wrote with its default encoder (AV1, a key frame in every second picture)."""
    folder = options.work / f"{cameras}x{size}-{options.episodes}x{options.frames}"
    if not folder.is_dir():
        draft = folder.with_name(folder.name + ".partial")
        numbers = [str(size), str(cameras), str(options.episodes), str(options.frames)]
        python = options.peers["strong"]
        command = [python, str(HERE / "loader_peer.py"), "write", str(draft), *numbers]
        options.work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["rm", "-rf", str(draft)], check=True)
        ended = subprocess.run(command, env=environment_of(options, python), capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(ended.stderr[-3000:])
        draft.rename(folder)
    return folder


def run_arm(options: Options, said: dict[str, Any], python: str | None) -> dict[str, Any]:
    """One arm in a process of its own; its memory is looked at from here."""
    path = options.work / "specification.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said))
    script = [str(HERE / "loader_peer.py"), "read"] if python else [str(HERE / "loader_ours.py")]
    command = [python or sys.executable, *script, str(path)]
    before, begun = busy(), time.perf_counter()
    with subprocess.Popen(
        command, env=environment_of(options, python), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watch = Memory(process.pid)
        watch.start()
        out, err = process.communicate()
        watch.ended.set()
        watch.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{err[-3000:]}")
    seconds = time.perf_counter() - begun
    after = busy()
    used = os.times()
    own = used.children_user + used.children_system - watch.children_before
    others = ((after - before) - own) / (seconds * (os.cpu_count() or 1))
    told = json.loads(out.splitlines()[-1])
    return told | {"memory_mb": watch.own / 1e6, "with_files_mb": watch.all / 1e6, "others": round(max(0.0, others), 3)}


@dataclass
class Memory(threading.Thread):
    """The greatest memory of a process and its children: shared pages count once, pages of files are told apart."""

    process: int
    own: int = 0
    all: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        used = os.times()
        self.children_before = used.children_user + used.children_system

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.ended.wait(0.2):
            told = [_memory(process) for process in _family(self.process)]
            self.own = max(self.own, sum(own for own, _ in told))
            self.all = max(self.all, sum(whole for _, whole in told))


def _family(process: int) -> list[int]:
    found = [process]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _memory(process: int) -> tuple[int, int]:
    """Bytes that only the processor's memory holds, and bytes with pages of files (proportional shares)."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0, 0
    told = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return told["Pss_Anon"] + told["Pss_Shmem"], told["Pss"]


def busy() -> float:
    """Seconds of processor time that all processes of the machine have used."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def environment_of(options: Options, python: str | None) -> dict[str, str]:
    """One thread for mathematics; for a peer without FFmpeg, the libraries of its PyAV under their plain names."""
    settings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "SVT_LOG": "1"}
    if python is None:
        return settings | {"PYTHONPATH": str(HERE.parent / "src")}
    libraries = sorted(Path(python).parent.parent.glob("lib/python3*/site-packages/av.libs"))
    if libraries:
        links = options.work / f"ffmpeg-{hashlib.sha256(python.encode()).hexdigest()[:8]}"
        links.mkdir(parents=True, exist_ok=True)
        for file in libraries[0].glob("lib[as][vw]*.so.*"):
            name, _, version = file.name.partition(".so.")
            link = links / f"{name.split('-')[0]}.so.{version.split('.')[0]}"
            if not link.is_symlink():
                link.symlink_to(file)
        kept = os.environ.get("LD_LIBRARY_PATH", "")
        settings["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [kept, str(links), str(libraries[0])]))
    settings.pop("PYTHONPATH", None)
    return settings


def digest(folder: Path, said: dict[str, Any], window: int) -> str:
    """What a sample must be: the file decoded from its start, picture by picture, and the numbers as stored."""
    dataset = LeRobotDataset.open(folder)
    starts = np.array([episode.start for episode in dataset.episodes])
    episode = dataset.episodes[int(np.searchsorted(starts, window, side="right")) - 1]
    frame, last = window - episode.start, episode.length - 1
    total = hashlib.sha256()
    offsets = np.array([0, *said["future"]])
    steps = frame + np.arange(said["num_actions"])
    for camera in range(said["cameras"]):
        file, from_s = dataset.video_file(episode, f"camera_{camera}")
        pictures = plain(str(file))
        first = round(from_s * dataset.fps)
        for offset in offsets:
            total.update(pictures[first + min(frame + offset, last)].tobytes())
        total.update((frame + offsets <= last).tobytes())
    total.update(dataset.actions(episode)[np.minimum(steps, last)].tobytes())
    total.update((steps <= last).tobytes())
    total.update(dataset.state(episode)[frame].tobytes())
    total.update(episode.text.encode())
    return total.hexdigest()


_PLAIN: dict[str, np.ndarray] = {}


def plain(file: str) -> np.ndarray:
    """All pictures of a file, from its first packet to its last."""
    if file not in _PLAIN:
        if len(_PLAIN) > 1:
            _PLAIN.clear()
        with av.open(file) as container:
            _PLAIN[file] = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return _PLAIN[file]


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"processor": model[0].split(":")[1].strip() if model else "unknown", "cores": os.cpu_count()}


def table(told: dict[str, Any], options: Options) -> str:
    """The figures as Markdown."""
    from loader_table import write_table

    return write_table(told, list(options.peers), options.repeat)


if __name__ == "__main__":
    main()
