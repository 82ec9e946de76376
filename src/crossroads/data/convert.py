"""Turns demonstrations of any format that is read into a LeRobotDataset v3.0: verified, resumable, whole or not at all.

Each episode becomes a piece (`data/piece.py`) in a hidden folder beside the target; a finished piece is not made again.
When all are there, they are joined without encoding anything a second time, the result is read again and compared with
the pieces, and only then it gets its name. Killed at any moment, the same command goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crossroads.data import meta
from crossroads.data.clips import hashes
from crossroads.data.formats.recognise import open_source
from crossroads.data.formats.source import Facts, Wanted
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.piece import LOSSLESS_DB, Piece, make_piece, numbers_hash, sound_piece
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.space import ActionSpace
from crossroads.storage import sync

RECORD_PATH = "meta/conversion.json"
_PLAN, _LOCK = "plan.json", "lock"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written."""

    path: Path
    format: str
    num_episodes: int
    num_frames: int
    num_resumed: int
    """Episodes that an earlier, interrupted run had finished."""
    num_taken_over: int
    """Videos whose packets were copied instead of being encoded again."""
    worst_psnr_db: float | None
    """Of all encoded pictures the one that lost most; None when none was encoded."""
    left_behind: tuple[str, ...]
    """What the source holds besides, which was not converted."""

    def __str__(self) -> str:
        lost = "no picture was encoded again"
        if self.worst_psnr_db is not None:
            whole = self.worst_psnr_db >= LOSSLESS_DB
            lost = (
                "no picture lost anything" if whole else f"the picture that lost most has {self.worst_psnr_db:.1f} dB"
            )
        made = f"{self.num_episodes} episodes, {self.num_frames} frames from {self.format}"
        resumed = f"; {self.num_resumed} episodes were there already" if self.num_resumed else ""
        behind = f"\nnot converted: {', '.join(self.left_behind)}" if self.left_behind else ""
        told = f"{self.num_taken_over} videos taken over, {lost}; read again and equal"
        return f"{self.path}: {made}; {told}{resumed}{behind}"


def convert(
    source_path: str | Path,
    target: str | Path,
    *,
    wanted: Wanted,
    format: str | None = None,
    lossless: bool = False,
    turned: bool = False,
    leave_out: Sequence[int] = (),
    progress: bool = False,
) -> Conversion:
    """Write the episodes at `source_path` as a LeRobotDataset v3.0 at `target`.

    `lossless` encodes pictures so that every bit comes back; `turned` rotates them by 180 degrees; `leave_out` names
    episodes by their number in the source.

    Raises:
        InputError: the format is not known or not sound, an episode cannot be converted, what was written is not what
            was read, or `target` exists and is not the result of this very conversion.
    """
    target = Path(target).absolute()
    source = open_source(Path(source_path), wanted, format=format)
    chosen = _chosen(source.facts, leave_out)
    plan = _plan(source.facts, wanted, lossless=lossless, turned=turned, chosen=chosen)
    work = target.parent / f".{target.name}.converting"
    if target.exists():
        return _finished(target, plan, work)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _claimed(work, {name: value for name, value in plan.items() if name != "episodes"}):
        pieces, num_resumed = [], 0
        quiet = None if progress else True
        with tqdm(total=len(chosen), desc="convert", unit="episode", leave=False, disable=quiet) as bar:
            for index in chosen:
                folder = work / "episodes" / f"{index:06d}"
                piece = sound_piece(folder)
                num_resumed += piece is not None
                pieces.append(piece or make_piece(source, index, folder, lossless=lossless, turned=turned))
                bar.update()
        _join(source.facts, pieces, target, plan)
        result = _summary(target, source.facts, pieces, num_resumed)
        shutil.rmtree(work, ignore_errors=True)
    return result


def _chosen(facts: Facts, leave_out: Sequence[int]) -> tuple[int, ...]:
    unknown = sorted(index for index in leave_out if not 0 <= index < facts.num_episodes)
    chosen = tuple(index for index in range(facts.num_episodes) if index not in set(leave_out))
    if unknown or not chosen:
        raise InputError(
            where=f"{facts.path}: --leave-out",
            expected=f"some, but not all, of the episodes 0 to {facts.num_episodes - 1}",
            got=f"{unknown[:8]}, which do not exist" if unknown else "all of them",
            do="Correct the list.",
        )
    return chosen


def _plan(facts: Facts, wanted: Wanted, *, lossless: bool, turned: bool, chosen: Sequence[int]) -> dict[str, Any]:
    """What makes two conversions one: the source by names, sizes and times of its files, and all that was asked."""
    files = hashlib.sha256()
    root = facts.path if facts.path.is_dir() else facts.path.parent
    for file in facts.files:
        state = file.stat()
        files.update(f"{file.relative_to(root)}:{state.st_size}:{state.st_mtime_ns};".encode())
    return {
        "format": facts.format,
        "source": facts.path.name,
        "source_files_sha256": files.hexdigest(),
        "fps": facts.fps,
        "robot": facts.robot,
        "cameras": {name: list(hw) for name, hw in facts.cameras.items()},
        "state": list(facts.state_names),
        "action": list(facts.action_names),
        "text": wanted.text,
        "state_from": list(wanted.state),
        "action_from": list(wanted.action),
        "lossless": lossless,
        "turned": turned,
        "episodes": {
            "count": len(chosen),
            "sha256": hashlib.sha256(repr(tuple(chosen)).encode()).hexdigest(),
        },
    }


@contextmanager
def _claimed(work: Path, plan: dict[str, Any]) -> Iterator[None]:
    """The working folder of this plan, for this process alone. Which episodes are left out may change on the way."""
    work.mkdir(exist_ok=True)
    with (work / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                where=str(work),
                expected="no other process that converts to the same place",
                got="one that holds the lock",
                do="Wait until it has ended, or choose another place.",
            ) from error
        path = work / _PLAN
        (work / "episodes").mkdir(exist_ok=True)
        if not path.is_file() or not any((work / "episodes").glob("[0-9]*")):
            draft = work / f"{_PLAN}.draft"
            meta.write_json(draft, plan)
            sync(draft)
            draft.rename(path)
        begun = json.loads(path.read_text(encoding="utf-8"))
        if begun != plan:
            raise InputError(
                where=str(work),
                expected="the same source and options as when it was begun",
                got=f"another {', '.join(_differing(begun, plan))}",
                do="Repeat the command as it was, or remove this folder to begin anew.",
            )
        yield


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _finished(target: Path, plan: dict[str, Any], work: Path) -> Conversion:
    """The result of an earlier run of the same plan; anything else at the target is left alone."""
    path = target / RECORD_PATH
    if path.is_file():
        record = meta.read_json(path)
        if record.get("plan") == plan:
            shutil.rmtree(work, ignore_errors=True)  # killed between the last two steps
            result = dict(record["result"])
            behind, number = tuple(result.pop("left_behind")), result["num_episodes"]
            return Conversion(path=target, **result | {"num_resumed": number, "left_behind": behind})
    raise InputError(
        where=str(target),
        expected="a path that does not exist yet",
        got="an existing file or folder that is not the result of this conversion",
        do="Choose another path, or remove it first; a dataset is never overwritten.",
    )


def _join(facts: Facts, pieces: Sequence[Piece], target: Path, plan: dict[str, Any]) -> None:
    """Write the dataset from its pieces, compare it with them, and give it its name."""
    numbers = [piece.numbers() for piece in pieces]
    labelled = [one.actions for one in numbers if not one.action_free]
    size = len(facts.action_names)
    if facts.limits is not None:
        low, high = facts.limits
    elif labelled:
        low = tuple(float(value) for value in np.min([actions.min(0) for actions in labelled], axis=0))
        high = tuple(float(value) for value in np.max([actions.max(0) for actions in labelled], axis=0))
    else:
        low = high = (0.0,) * size
    space = ActionSpace(
        robot=facts.robot,
        action_names=facts.action_names,
        action_units=facts.action_units or ("",) * size,
        low=low,
        high=high,
        state_names=facts.state_names,
        control_hz=facts.fps,
    )
    writer = LeRobotWriter(target, fps=facts.fps, cameras=dict(facts.cameras), space=space)
    try:
        for piece, one in zip(pieces, numbers, strict=True):
            writer.join_episode(
                clips={camera: piece.clip(camera) for camera in facts.cameras},
                pixels={camera: piece.pixels(camera) for camera in facts.cameras},
                state=one.state,
                actions=one.actions,
                text=one.text,
                session=one.session,
                action_free=one.action_free,
            )

        def seal(folder: Path) -> None:
            _compare(folder, pieces)
            result = _summary(target, facts, pieces, 0)
            plain = {name: getattr(result, name) for name in result.__dataclass_fields__ if name != "path"}
            numbers = hashlib.sha256("".join(piece.numbers_sha256 for piece in pieces).encode()).hexdigest()
            meta.write_json(folder / RECORD_PATH, {"plan": plan, "result": plain, "numbers_sha256": numbers})

        writer.finalise(seal)
    except BaseException:
        writer.abandon()
        raise


def _compare(folder: Path, pieces: Sequence[Piece]) -> None:
    """The finished files against the pieces: numbers exactly, videos packet by packet."""
    dataset = LeRobotDataset.open(folder)
    places: dict[Path, list[tuple[float, int, str]]] = {}
    for episode, piece in zip(dataset.episodes, pieces, strict=True):
        seen = numbers_hash(dataset.state(episode), dataset.actions(episode), episode.text)
        if seen != piece.numbers_sha256:
            _refuse(f"{folder}: episode {episode.index}", "numbers")
        for camera in piece.videos:
            path, from_s = dataset.video_file(episode, camera)
            places.setdefault(path, []).append((from_s - 0.5 / dataset.fps, episode.index, camera))
    for path, members in places.items():
        members.sort()
        found = hashes(path, [start_s for start_s, _, _ in members])
        for (_, index, camera), (sha256, count) in zip(members, found, strict=True):
            if (sha256, count) != (pieces[index].videos[camera].packets_sha256, pieces[index].length):
                _refuse(f"{path}: episode {index}", "pictures")


def _refuse(where: str, what: str) -> None:
    raise InputError(
        where=where,
        expected=f"the {what} that were read from the source",
        got=f"other {what} when read again",
        do="Check the disk, then run the same command again.",
    )


def _summary(target: Path, facts: Facts, pieces: Sequence[Piece], num_resumed: int) -> Conversion:
    videos = [video for piece in pieces for video in piece.videos.values()]
    encoded = [video.psnr_db for video in videos if not video.taken_over]
    return Conversion(
        path=target,
        format=facts.format,
        num_episodes=len(pieces),
        num_frames=sum(piece.length for piece in pieces),
        num_resumed=num_resumed,
        num_taken_over=sum(video.taken_over for video in videos),
        worst_psnr_db=min(encoded, default=None),
        left_behind=facts.left_behind,
    )
