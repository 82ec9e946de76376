"""Decodes each frame once, at the size that is trained on, into a memory-mapped file.

Reading windows from video decodes the same groups of pictures again in every epoch; from a map of uint8 it is a copy
(measured on 224-pixel AV1: LeRobot 0.6.1 9.8 CPU-ms a sample, a map 0.12). Frames are stored episode after episode;
a map appears under its final name only when it is complete, so that a killed process leaves nothing that could be read.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError, nearest
from crossroads.storage import Filling, default_root

_SAVE_EVERY_FRAMES = 4096


def resize(frames: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Frames `[n, h, w, 3]` at another size: antialiased bilinear, which averages areas when shrinking."""
    if frames.shape[1:3] == tuple(image_hw) or len(frames) == 0:
        return frames if frames.shape[1:3] == tuple(image_hw) else np.empty((0, *image_hw, 3), np.uint8)
    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    planes = torch.nn.functional.interpolate(planes, size=image_hw, mode="bilinear", antialias=True)
    return planes.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


@dataclass(frozen=True, kw_only=True)
class FrameCache:
    """All frames of some cameras of one data set at one size; get one from `open`."""

    maps: dict[str, np.ndarray]
    """Per camera `[frames of the data set, h, w, 3]`, read-only."""
    starts: tuple[int, ...]
    """The first row of each episode."""
    image_hw: tuple[int, int]

    @classmethod
    def open(
        cls, dataset: LeRobotDataset, *, cameras: Sequence[str], image_hw: tuple[int, int], root: Path | None = None
    ) -> FrameCache:
        """Map what was decoded before and decode the rest, with a progress bar; a second process waits."""
        folder = (root or default_root()) / "frames" / dataset.content_hash()[:24]
        folder.mkdir(parents=True, exist_ok=True)
        maps = {}
        for camera in cameras:
            if camera not in dataset.cameras:
                raise InputError(
                    where=f"{dataset.path}: cameras",
                    expected=f"some of {', '.join(dataset.cameras)}",
                    got=repr(camera),
                    do=nearest(camera, dataset.cameras),
                )
            path = folder / f"{camera}-{image_hw[0]}x{image_hw[1]}.u8"
            shape = (dataset.num_frames, *image_hw, 3)
            if not path.is_file():
                with path.with_suffix(".lock").open("w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if not path.is_file():
                        _build(dataset, camera, path, shape)
            maps[camera] = np.memmap(path, np.uint8, "r", shape=shape)
        starts = tuple(episode.start for episode in dataset.episodes)
        return cls(maps=maps, starts=starts, image_hw=(image_hw[0], image_hw[1]))

    def frames(self, episode_index: int, camera: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of the given frames of one episode, `[n, h, w, 3]` uint8."""
        return self.rows(camera, self.starts[episode_index] + np.asarray(indices, np.int64))

    def rows(self, camera: str, rows: np.ndarray) -> np.ndarray:
        """A copy of frames by their row in the whole data set; `rows` may have any shape."""
        return np.asarray(self.maps[camera][rows])


def _build(dataset: LeRobotDataset, camera: str, path: Path, shape: tuple[int, ...]) -> None:
    """Decode into `<name>.part`, noting every few thousand frames how many episodes are safely on disk."""
    file = Filling(path=path, num_bytes=math.prod(shape))
    done = file.begin()
    frames = np.memmap(file.part, np.uint8, "r+", shape=shape)
    unsaved = 0
    total = dataset.num_frames
    seen = sum(episode.length for episode in dataset.episodes[:done])
    with tqdm(total=total, initial=seen, desc=f"decode {camera}", unit="frame", leave=False, disable=None) as bar:
        for episode in dataset.episodes[done:]:
            frames[episode.rows] = resize(dataset.frames(episode, camera, None), (shape[1], shape[2]))
            unsaved += episode.length
            bar.update(episode.length)
            if unsaved >= _SAVE_EVERY_FRAMES:
                frames.flush()  # The frames must be on disk before the note that says so.
                file.note(episode.index + 1)
                unsaved = 0
    frames.flush()
    del frames
    file.end()
