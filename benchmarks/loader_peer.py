"""LeRobot's own loader (0.6.1 or 0.4.4), measured in an environment that has LeRobot and not crossroads.

`write FOLDER SIZE CAMERAS EPISODES FRAMES` records a dataset with LeRobot's writer and its default encoder (AV1);
`read SPECIFICATION.json` serves windows as its training script does and prints one line of JSON. Called by loader.py.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

FPS = 10


def write(folder: str, size: str, cameras: str, num_episodes: str, num_frames: str) -> None:
    """Textured scenes that move, with noise: neither flat (too easy) nor pure noise (no video). Encoded, a picture has
    0.06 bytes per pixel, much as those of lerobot/libero (1.9 GB for 2 x 273,465 pictures of 256 x 256)."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]

    side, generator = int(size), np.random.default_rng(0)
    names = [f"observation.images.camera_{camera}" for camera in range(int(cameras))]
    features: dict[str, Any] = {
        name: {"dtype": "video", "shape": (side, side, 3), "names": ["height", "width", "channels"]} for name in names
    }
    features["observation.state"] = {"dtype": "float32", "shape": (8,), "names": [f"s{place}" for place in range(8)]}
    features["action"] = {"dtype": "float32", "shape": (7,), "names": [f"a{place}" for place in range(7)]}
    dataset = LeRobotDataset.create(
        "local/bench", FPS, features, root=folder, robot_type="bench", streaming_encoding=True, encoder_threads=1
    )
    for episode in range(int(num_episodes)):
        coarse = generator.integers(0, 256, (side // 10 + 2, side // 10 + 2, 3))
        texture = coarse.repeat(20, 0).repeat(20, 1)
        for frame in range(int(num_frames)):
            shift = (frame * (1 + episode % 3)) % side
            cut = texture[shift : shift + side, shift // 2 : shift // 2 + side].astype(np.int16)
            pictures = {}
            for name in names:
                noise = generator.integers(-6, 7, cut.shape, dtype=np.int16)
                pictures[name] = np.clip(cut + noise, 0, 255).astype(np.uint8)
                cut = cut[::-1]
            numbers = {
                "observation.state": generator.normal(size=8).astype(np.float32),
                "action": generator.normal(size=7).astype(np.float32),
            }
            dataset.add_frame({**pictures, **numbers, "task": f"task {episode % 4}"})
        dataset.save_episode()
    dataset.finalize()


def read(path: str) -> None:
    """Time to the first batch, samples and processor time over `seconds`, and digests of some samples."""
    begun = time.perf_counter()
    said = json.loads(Path(path).read_text())
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    imported = time.perf_counter()
    cameras = [f"observation.images.camera_{camera}" for camera in range(said["cameras"])]
    offsets = {camera: [offset / FPS for offset in (0, *said["future"])] for camera in cameras}
    offsets["action"] = [step / FPS for step in range(said["num_actions"])]
    new = "return_uint8" in inspect.signature(LeRobotDataset.__init__).parameters
    extra = {"return_uint8": True} if new else {}
    dataset = LeRobotDataset(
        "local/bench", root=said["folder"], delta_timestamps=offsets, video_backend="torchcodec", **extra
    )
    workers = said["workers"]
    many = {"num_workers": workers, "prefetch_factor": 2, "persistent_workers": new} if workers else {}
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=said["batch_size"], sampler=said["order"], drop_last=False, **many
    )
    batches = iter(loader)
    next(batches)
    first = time.perf_counter()
    for _ in range(said["warm_batches"]):
        next(batches)
    samples, measured, spent = 0, time.perf_counter(), _processor_s()
    while time.perf_counter() - measured < said["seconds"]:
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            continue
        samples += len(batch["index"])
    seconds = time.perf_counter() - measured
    del batches  # the time of workers is known when they have ended
    spent = _processor_s() - spent
    digests = [_digest(dataset[window], cameras) for window in said["compared"]]
    told = {
        "samples_per_s": samples / seconds,
        "samples": samples,
        "processor_ms_per_sample": 1e3 * spent / samples if not workers else None,
        "import_s": imported - begun,
        "first_batch_s": first - imported,
        "digests": digests,
    }
    print(json.dumps(told), flush=True)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _digest(sample: dict[str, Any], cameras: list[str]) -> str:
    """Of the pictures (frame, row, column, colour), actions, state, and what lies behind the episode's end."""
    import numpy as np

    total = hashlib.sha256()
    for camera in cameras:
        pictures = sample[camera].numpy()
        if pictures.dtype != np.uint8:
            pictures = (pictures * 255).round().astype(np.uint8)
        total.update(np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)).tobytes())
        total.update((~sample[f"{camera}_is_pad"].numpy()).tobytes())
    total.update(sample["action"].numpy().astype("<f4").tobytes())
    total.update((~sample["action_is_pad"].numpy()).tobytes())
    total.update(sample["observation.state"].numpy().astype("<f4").tobytes())
    total.update(sample["task"].encode())
    return total.hexdigest()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
