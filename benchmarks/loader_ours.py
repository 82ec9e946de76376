"""Our loader in a process of its own, measured as `loader_peer.py` measures LeRobot's. Called by loader.py.

`SPECIFICATION.json` names the arm: `cached` (decoded before), `first epoch` (the cache is built meanwhile), `direct`
(no cache, all windows shuffled), `pool` (no cache, the windows of 16 episodes mixed).
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGUN = time.perf_counter()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from crossroads.data.cache import FrameCache  # noqa: E402
from crossroads.data.lerobot import LeRobotDataset  # noqa: E402
from crossroads.data.pool import PooledSource, sameness  # noqa: E402
from crossroads.data.window import Windows  # noqa: E402
from crossroads.types import NOTHING, Batch, Window  # noqa: E402


def measure(said: dict[str, Any]) -> dict[str, Any]:
    """One arm: time to the first batch, samples and processor time, digests."""
    torch.set_num_threads(1)
    imported = time.perf_counter()
    dataset = LeRobotDataset.open(said["folder"])
    window = _window(dataset, said)
    arm, root, size, order = said["arm"], Path(said["cache"]), said["batch_size"], np.array(said["order"])
    cache = None
    if arm in ("cached", "first epoch"):
        behind = arm == "first epoch"
        cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw, root=root, behind=behind)
    windows = Windows(dataset, window, episodes=range(len(dataset.episodes)), cache=cache)
    source = PooledSource.of(windows, batch_size=size, seed=0)
    extra: dict[str, Any] = {}

    def shuffled(step: int) -> Batch:
        return windows.batch(order[np.arange(step * size, (step + 1) * size) % len(order)])

    batch: Callable[[int], Batch] = shuffled
    if arm == "pool":
        batch = source.batch
    batch(0)
    first = time.perf_counter()
    if arm in ("first epoch", "pool"):
        measured = _epoch(batch, len(windows), size, cache, imported)
    else:
        measured = _steady(batch, said)
    if arm == "pool":
        extra["same_episode"] = sameness(source.order, windows, batch_size=size, num_batches=len(windows) // size)
    digests = [_digest(windows.batch([index]), window) for index in said["compared"]]
    return {"import_s": imported - BEGUN, "first_batch_s": first - imported, "digests": digests} | measured | extra


def _steady(batch: Callable[[int], Batch], said: dict[str, Any]) -> dict[str, Any]:
    step = 1
    for step in range(1, 1 + said["warm_batches"]):
        batch(step)
    samples, begun, spent = 0, time.perf_counter(), _processor_s()
    while time.perf_counter() - begun < said["seconds"]:
        step += 1
        samples += len(batch(step).weight)
    seconds, spent = time.perf_counter() - begun, _processor_s() - spent
    return {"samples_per_s": samples / seconds, "samples": samples, "processor_ms_per_sample": 1e3 * spent / samples}


def _epoch(
    batch: Callable[[int], Batch], num_windows: int, size: int, cache: FrameCache | None, begun: float
) -> dict[str, Any]:
    """Every window once, from the opening of the dataset on, and the cache complete: whichever is later."""
    for step in range(1, num_windows // size):
        batch(step)
    marks = [shelf.marks for shelf in cache.shelves.values() if shelf.marks is not None] if cache else []
    while not all(one.all() for one in marks) and cache and not cache.faults:
        time.sleep(0.01)
    seconds = time.perf_counter() - begun
    spent = _processor_s() + _processor_s(resource.RUSAGE_CHILDREN)
    return {
        "samples_per_s": num_windows / seconds,
        "samples": num_windows,
        "processor_ms_per_sample": 1e3 * spent / num_windows,
    }


def _window(dataset: LeRobotDataset, said: dict[str, Any]) -> Window:
    return Window(
        **{
            **{name: getattr(NOTHING, name) for name in NOTHING.__dataclass_fields__},
            "cameras": tuple(f"camera_{camera}" for camera in range(said["cameras"])),
            "image_hw": next(iter(dataset.image_hw.values())),
            "num_state": dataset.space.num_state,
            "action_size": dataset.space.action_size,
            "num_actions": said["num_actions"],
            "control_hz": dataset.fps,
            "future_s": tuple(offset / dataset.fps for offset in said["future"]),
        }
    )


def _processor_s(who: int = resource.RUSAGE_SELF) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _digest(batch: Batch, window: Window) -> str:
    """As `loader_peer.py` has it."""
    total = hashlib.sha256()
    for camera in window.cameras:
        total.update(batch.obs.images[camera].numpy().tobytes())
        total.update(batch.future[camera].numpy().tobytes())
        total.update(np.concatenate([[True], batch.future_valid[0].numpy()]).tobytes())
    for values in (batch.actions, batch.actions_valid, batch.obs.state):
        total.update(values[0].numpy().tobytes())
    total.update(batch.obs.text[0].encode())
    return total.hexdigest()


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text()))), flush=True)
