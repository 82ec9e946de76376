"""Runs inside an environment that has LeRobot (0.4.4 or 0.6.1) and not crossroads: reads or writes a dataset folder.

`read FOLDER OUT.npz BACKEND` loads every sample with LeRobot's own reader; `write FOLDER IN.npz KIND` records the given
episodes with LeRobot's own writer, as `video` or `image` features; `convert FOLDER - -` turns a v2.1 dataset into v3.0
in its place, with LeRobot's own converter. Called by test_lerobot_peer.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

FPS = 10


def read(folder: str, out: str, backend: str) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]

    dataset = LeRobotDataset("local/peer", root=folder, video_backend=backend)
    columns: dict[str, list[np.ndarray]] = {}
    texts = []
    for index in range(len(dataset)):
        sample = dataset[index]
        texts.append(sample.pop("task"))
        for name, value in sample.items():
            values = np.asarray(value)
            if name.startswith("observation.images."):
                values = (values * 255).round().astype(np.uint8).transpose(1, 2, 0)
            columns.setdefault(name, []).append(values)
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in columns.items()}
    arrays |= {"texts": np.array(texts), "mean": dataset.meta.stats["action"]["mean"]}
    np.savez(out, **arrays)


def write(folder: str, source: str, kind: str) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]

    given = np.load(source)
    shape = given["images_0"].shape[1:]
    features = {
        "observation.images.cam.front": {"dtype": kind, "shape": shape, "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": (3,), "names": {"motors": ["a", "b", "c"]}},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create(
        "local/peer", FPS, features, root=folder, robot_type="peer", use_videos=kind == "video"
    )
    for episode in range(int(given["num_episodes"])):
        for frame in range(len(given[f"images_{episode}"])):
            dataset.add_frame(
                {
                    "observation.images.cam.front": given[f"images_{episode}"][frame],
                    "observation.state": given[f"state_{episode}"][frame],
                    "action": given[f"actions_{episode}"][frame],
                    "next.reward": np.zeros(1, np.float32),
                    "task": f"task {episode % 2}",
                }
            )
        dataset.save_episode()
    dataset.finalize()


def convert(folder: str, _file: str, _how: str) -> None:
    place = root = Path(folder)
    try:
        from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset  # pyright: ignore
    except ImportError:  # 0.4.4 has it elsewhere, and is told the folder that holds the dataset's
        from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset  # pyright: ignore

        root = place.parent
    convert_dataset(place.name, root=root, push_to_hub=False)


if __name__ == "__main__":
    command, folder, file, how = sys.argv[1:]
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    {"read": read, "write": write, "convert": convert}[command](folder, file, how)
