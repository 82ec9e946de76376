"""Action-free tabletop clips with what the simulator knows about them: the one data source of both nano backbones.

The video model sees frames and words; the language model sees single frames of the same episodes and questions about
them. Neither sees an action or a robot state.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossroads.sim.tabletop.record import Episode, record_episodes
from crossroads.sim.tabletop.vector import Options

FAMILIES = ("reach", "push", "press")
CAMERA = "front"
TRAIN_SEED, HELD_OUT_SEED = 10_000_000, 90_000_000


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One episode: frames at 10 Hz, the words, and where everything is in the picture."""

    frames: np.ndarray
    """uint8 (T, h, w, 3)."""
    text: str
    target: str
    names: tuple[str, ...]
    pixels: np.ndarray
    """float32 (T, len(names), 2): (u right, v down) in 0..1."""
    positions: np.ndarray
    """float32 (T, len(names), 3): metres."""
    hand: np.ndarray
    """float32 (T, 3): metres."""
    others: tuple[str, ...]
    """The other instructions that this scene admits."""


def record(num_episodes: int, seed: int) -> list[Clip]:
    """Clips from consecutive scene seeds (episodes that the expert fails are left out)."""
    tables = Options(families=FAMILIES, cameras=(CAMERA,))
    return [clip_of(episode) for episode in record_episodes(tables, num_episodes=num_episodes, seed=seed)]


def clip_of(episode: Episode) -> Clip:
    """What the front camera and the simulator know of a recorded episode."""
    return Clip(
        frames=episode.images[CAMERA],
        text=episode.text,
        target=episode.task.target,
        names=episode.names,
        pixels=episode.pixels[CAMERA],
        positions=episode.positions,
        hand=episode.state[:, :3],
        others=tuple(task.text for task in episode.valid_tasks if task.text != episode.text),
    )


def load_or_record(path: Path, num_episodes: int, seed: int) -> list[Clip]:
    """Clips from a file written by an earlier call, or recorded now and written (atomically) for the next."""
    if path.exists():
        return _read(path)
    clips = record(num_episodes, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npz")
    arrays: dict[str, np.ndarray] = {}
    for index, clip in enumerate(clips):
        arrays[f"{index}/frames"], arrays[f"{index}/pixels"] = clip.frames, clip.pixels
        arrays[f"{index}/positions"], arrays[f"{index}/hand"] = clip.positions, clip.hand
        words = (clip.text, clip.target, "|".join(clip.names), "|".join(clip.others))
        arrays[f"{index}/words"] = np.array(words)
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.replace(path)
    return clips


def _read(path: Path) -> list[Clip]:
    with np.load(path, allow_pickle=False) as stored:
        clips = []
        for index in range(sum(name.endswith("/frames") for name in stored.files)):
            text, target, names, others = stored[f"{index}/words"].tolist()
            clips.append(
                Clip(
                    frames=stored[f"{index}/frames"],
                    text=text,
                    target=target,
                    names=tuple(names.split("|")),
                    pixels=stored[f"{index}/pixels"],
                    positions=stored[f"{index}/positions"],
                    hand=stored[f"{index}/hand"],
                    others=tuple(others.split("|")) if others else (),
                )
            )
    return clips
