"""LeRobotDataset v2.0, v2.1 and v3.0 as a source of episodes, read by `data/lerobot.py`.

A v2 dataset keeps one video file per episode; such a file is handed on as it is, so that conversion costs no quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossroads.data import meta
from crossroads.data.formats.source import Clip, Facts, Numbers, Wanted, blocks, chosen_cameras
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LeRobotSource:
    """The episodes of one folder."""

    facts: Facts
    dataset: LeRobotDataset
    text: str

    def numbers(self, index: int) -> Numbers:
        dataset, episode = self.dataset, self.dataset.episode(index)
        told = np.unique(dataset.tables.task_index[episode.rows])
        if len(told) > 1 and not self.text:
            raise InputError(
                where=f"{dataset.path}: episode {index}",
                expected="one instruction for the whole episode",
                got=", ".join(repr(dataset.tasks[task]) for task in told),
                do=f"Cut it where the words change, add --leave-out {index}, or give --text for all episodes.",
            )
        return Numbers(
            state=dataset.state(episode),
            actions=dataset.actions(episode),
            text=self.text or episode.text,
            session=episode.session,
            action_free=episode.action_free,
        )

    def frames(self, index: int, camera: str) -> Iterator[np.ndarray]:
        for part in blocks(self.dataset.episode(index).length):
            yield self.dataset.frames(index, camera, np.arange(part.start, part.stop))

    def clip(self, index: int, camera: str) -> Clip | None:
        feature = self.dataset.info["features"][self.dataset.camera_keys[camera]]
        if feature["dtype"] != "video":
            return None
        path, from_s = self.dataset.video_file(index, camera)
        alone = str(self.dataset.info["codebase_version"]).startswith("v2.")
        return Clip(path=path, from_s=from_s, alone=alone)


def open_lerobot(path: Path, wanted: Wanted) -> LeRobotSource:
    """The dataset in a folder. Raises `InputError` when it cannot be read, or when something is asked for that its
    own columns fix."""
    if wanted.state or wanted.action:
        raise InputError(
            where=f"{path}: --state, --action",
            expected="nothing",
            got=", ".join((*wanted.state, *wanted.action)),
            do="A LeRobot dataset names its state and action itself; leave both options away.",
        )
    dataset = LeRobotDataset.open(path)
    if wanted.fps is not None and wanted.fps != dataset.fps:
        raise InputError(
            where=f"{path}: --fps",
            expected=f"{dataset.fps:g}, as meta/info.json says",
            got=f"{wanted.fps:g}",
            do="Leave --fps away.",
        )
    space = dataset.space
    declared = "low" in (dataset.info["features"]["action"].get("info") or {})
    chosen = chosen_cameras(str(path), wanted, dataset.image_hw)
    taken = {*meta.BOOKKEEPING, meta.STATE, meta.ACTION, meta.ACTION_FREE, meta.SESSION}
    taken |= {dataset.camera_keys[name] for name in chosen}
    facts = Facts(
        path=path,
        format=f"lerobot-{str(dataset.info['codebase_version'])[:2]}",
        fps=dataset.fps,
        robot=wanted.robot or space.robot,
        cameras={name: dataset.image_hw[name] for name in chosen},
        state_names=space.state_names,
        action_names=space.action_names,
        action_units=space.action_units,
        limits=(space.low, space.high) if declared else None,
        num_episodes=len(dataset.episodes),
        left_behind=tuple(key for key in dataset.info["features"] if key not in taken),
        files=tuple(sorted(file for file in path.rglob("*") if file.is_file())),
    )
    return LeRobotSource(facts=facts, dataset=dataset, text=wanted.text)
