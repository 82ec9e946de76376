"""Small recordings, made and written in a blink, for every test that needs a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossroads.data.writer import LeRobotWriter
from crossroads.space import ActionSpace

FPS = 10.0


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One episode as it was handed to the writer."""

    images: dict[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray
    text: str
    session: int
    action_free: bool


def space() -> ActionSpace:
    return ActionSpace(
        robot="toy",
        action_names=("x", "y"),
        action_units=("m", "m"),
        low=(-1.5, -1.0),
        high=(1.5, 1.0),
        state_names=("a", "b", "c"),
        control_hz=FPS,
    )


def moving_blocks(length: int, image_hw: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A picture of coloured blocks, moving a pixel a frame: what a codec sees of a tabletop, in the small."""
    height, width = image_hw
    coarse = generator.integers(0, 256, (height // 8, width // 8, 3))
    picture = coarse.repeat(8, 0).repeat(8, 1).astype(np.uint8)
    return np.stack([np.roll(picture, step, 1) for step in range(length)])


def episodes(num_episodes: int, *, seed: int = 0, image_hw: tuple[int, int] = (32, 48)) -> list[Recorded]:
    """Episodes of 5 to 24 frames: four instructions, sessions of three, every fifth without actions."""
    generator = np.random.default_rng(seed)
    made = []
    for index in range(num_episodes):
        length = int(generator.integers(5, 25))
        made.append(
            Recorded(
                images={name: moving_blocks(length, image_hw, generator) for name in ("front", "wrist")},
                state=generator.normal(size=(length, 3)).astype(np.float32),
                actions=generator.normal(size=(length, 2)).astype(np.float32),
                text=f"do thing {index % 4}",
                session=index // 3,
                action_free=index % 5 == 4,
            )
        )
    return made


def write(path: Path, recorded: list[Recorded], *, video_file_mb: float = 200.0, data_file_mb: float = 100.0) -> Path:
    height, width = recorded[0].images["front"].shape[1:3]
    cameras = {"front": (height, width), "wrist": (height, width)}
    with LeRobotWriter(
        path, fps=FPS, cameras=cameras, space=space(), video_file_mb=video_file_mb, data_file_mb=data_file_mb
    ) as writer:
        for one in recorded:
            writer.add_episode(
                images=one.images,
                state=one.state,
                actions=one.actions,
                text=one.text,
                session=one.session,
                action_free=one.action_free,
            )
    return path
