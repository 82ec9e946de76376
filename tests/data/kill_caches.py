"""Kills the building of frame caches at random moments again and again, and looks at what is left each time.

`python tests/data/kill_caches.py TIMES FOLDER [EPISODES]` prints how the builds ended; a wrong state is an error.
Every other build decodes in processes of its own; of those, every other one loses a decoding process instead.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from recordings import episodes, write

from crossroads.data import cache as caching
from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError
from crossroads.storage import Filling

IMAGE_HW = (32, 48)


def kill_builds(times: int, folder: Path, *, num_episodes: int = 40) -> Counter[str]:
    """How often a build was killed, lost a process that decodes, or ended before."""
    dataset = LeRobotDataset.open(write(folder / "toy", episodes(num_episodes)))
    begun = time.monotonic()
    whole = FrameCache.open(dataset, cameras=("front",), image_hw=IMAGE_HW, root=folder / "undisturbed")
    alone_s = time.monotonic() - begun
    expected = np.array(whole.shelves["front"].frames)
    root, generator, fates = folder / "cache", np.random.default_rng(times), Counter[str]()
    root.mkdir()
    path = root / "frames" / dataset.content_hash()[:24] / f"front-{IMAGE_HW[0]}x{IMAGE_HW[1]}.u8"
    there: set[int] = set()
    span_s = {False: 1.2 * alone_s, True: 1.2 * _processes_s(dataset, folder / "timed")}
    for number in range(times):
        beside = number % 2 == 1
        child = os.fork()
        if child == 0:
            os._exit(_build(dataset, root, beside=beside))
        killed_s, looked_s = float(generator.uniform(0, span_s[beside])), float(generator.uniform())
        time.sleep(killed_s * looked_s)
        _look(dataset, path, expected, set())  # one who reads along
        time.sleep(killed_s * (1 - looked_s))
        victim = (number % 4 == 3 and _first_child(child)) or child
        with suppress(ProcessLookupError):  # a process that decodes may have ended by itself
            os.kill(victim, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        fates["ended" if status == 0 else "killed" if victim == child else "lost a process"] += 1
        there = _look(dataset, path, expected, there)
        if path.is_file():
            path.unlink()
            there = set()
    last = FrameCache.open(dataset, cameras=("front",), image_hw=IMAGE_HW, root=root)
    assert np.array_equal(last.shelves["front"].frames, expected)
    names = sorted(file.name for file in path.parent.iterdir())
    assert {Path(name).suffix for name in names} == {".u8", ".lock", ".used"}, f"left behind: {names}"
    return fates


def _build(dataset: LeRobotDataset, root: Path, *, beside: bool) -> int:
    """0 when the cache is complete."""
    caching._ALONE_PIXELS, caching._TASK_FRAMES = (0 if beside else 10**9), 40
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        FrameCache.open(dataset, cameras=("front",), image_hw=IMAGE_HW, root=root, num_workers=2)
    except (RuntimeError, InputError):
        return 1
    return 0


def _look(dataset: LeRobotDataset, path: Path, expected: np.ndarray, before: set[int]) -> set[int]:
    """The episodes that are marked as there, each of which must be right; those that were there must still be."""
    file = Filling(path=path, num_bytes=0, num_units=0)
    try:
        if path.is_file():
            frames, marks = np.fromfile(path, np.uint8), np.ones(len(dataset.episodes))
            assert frames.size == expected.size, "what has the name is complete"
        else:
            marks = np.array(file.follow())
            frames = np.fromfile(file.part, np.uint8)
    except FileNotFoundError:  # it has just begun, or taken its name
        assert not before or path.is_file(), "what was there is still there"
        return before
    found = set(np.flatnonzero(marks).tolist())
    assert before <= found, "what was finished stays finished"
    frames = frames.reshape(expected.shape)
    for index in found:
        rows = dataset.episodes[index].rows
        assert np.array_equal(frames[rows], expected[rows]), f"episode {index} is marked and wrong"
    return found


def _processes_s(dataset: LeRobotDataset, root: Path) -> float:
    """How long a build with processes takes."""
    begun, child = time.monotonic(), os.fork()
    if child == 0:
        os._exit(_build(dataset, root, beside=True))
    assert os.waitpid(child, 0)[1] == 0
    return time.monotonic() - begun


def _first_child(process: int) -> int | None:
    """A process that another one has started."""
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                return int(child)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


if __name__ == "__main__":
    number, place = int(sys.argv[1]), Path(sys.argv[2])
    place.mkdir(parents=True)
    ends = kill_builds(number, place, num_episodes=int(sys.argv[3]) if len(sys.argv) > 3 else 40)
    print(f"{number} builds: {', '.join(f'{ends[end]} {end}' for end in sorted(ends))}; every state was right")
