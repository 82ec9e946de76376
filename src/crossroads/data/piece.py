"""One episode on its way from a foreign format into a LeRobotDataset: a folder that is complete or not there.

It holds the numbers, one video per camera (or the name of a video that is taken over as it is) and what was made sure
of: the numbers by their hash, the pictures by decoding what was written and comparing it with what was read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from crossroads.data import meta
from crossroads.data.clips import scan
from crossroads.data.formats.source import Clip, Numbers, Source
from crossroads.data.statistics import PixelCounts, picked
from crossroads.data.video import VideoWriter, decode
from crossroads.errors import InputError
from crossroads.storage import sync

MIN_PSNR_DB = 30.0
"""A decoded picture this close to its original or closer is the same picture through the codec (it gives 38 dB and more
on moving shapes); another picture, or one out of order, is below."""
LOSSLESS_DB = 100.0
"""Stands for no difference at all."""
_RECORD, _NUMBERS = "piece.json", "numbers.npz"


@dataclass(frozen=True, kw_only=True)
class Video:
    """The pictures of one camera."""

    file: str
    """The video file; relative to the piece when it was written here."""
    taken_over: bool
    """It is the source's own file."""
    packets_sha256: str
    frames_sha256: str
    """Of the pictures that were read, as bytes; empty when the file was taken over."""
    psnr_db: float
    """Of the picture that lost most; `LOSSLESS_DB` when none lost anything."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A finished episode."""

    folder: Path
    text: str
    length: int
    session: int
    action_free: bool
    numbers_sha256: str
    videos: Mapping[str, Video]

    def clip(self, camera: str) -> Path:
        """Where the camera's video lies."""
        return self.folder / self.videos[camera].file

    def numbers(self) -> Numbers:
        """State and actions, as they were read."""
        with np.load(self.folder / _NUMBERS) as stored:
            return Numbers(
                state=stored["state"],
                actions=stored["actions"],
                text=self.text,
                session=self.session,
                action_free=self.action_free,
            )

    def pixels(self, camera: str) -> PixelCounts:
        """The counts that the statistics of the camera are made from."""
        with np.load(self.folder / _NUMBERS) as stored:
            return PixelCounts(stored[f"pixels/{camera}"], int(stored[f"pictures/{camera}"]))


def numbers_hash(state: np.ndarray, actions: np.ndarray, text: str) -> str:
    """A name for the numbers and words of an episode (sha256, hex)."""
    total = hashlib.sha256()
    for values in (state, actions):
        total.update(f"{values.shape};".encode())
        total.update(np.ascontiguousarray(values, "<f4").tobytes())
    total.update(text.encode())
    return total.hexdigest()


def make_piece(source: Source, index: int, folder: Path, *, lossless: bool, turned: bool) -> Piece:
    """Read one episode, write it beside `folder` and move it there when everything in it has been made sure of.

    Raises:
        InputError: the episode cannot be read or recorded, or what was written is not what was read.
    """
    facts = source.facts
    where = f"{facts.path}: episode {index}"
    numbers = source.numbers(index)
    _check(where, source, numbers)
    draft = folder.with_name(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    stored: dict[str, np.ndarray] = {"state": numbers.state, "actions": numbers.actions}
    videos = {}
    for place, camera in enumerate(facts.cameras):
        counts = PixelCounts()
        clip = None if lossless or turned else source.clip(index, camera)
        video = clip and _taken_over(where, clip, numbers.length, facts.fps, counts)
        if video is None:
            path = draft / f"camera_{place}.mp4"
            video = _encoded(source, index, camera, numbers.length, path, counts, lossless=lossless, turned=turned)
        videos[camera] = video
        stored |= {f"pixels/{camera}": counts.counts, f"pictures/{camera}": np.asarray(counts.num_pictures)}
    np.savez(draft / _NUMBERS, **stored)  # pyright: ignore[reportArgumentType]
    record = {
        "text": numbers.text,
        "length": numbers.length,
        "session": numbers.session,
        "action_free": numbers.action_free,
        "numbers_sha256": numbers_hash(numbers.state, numbers.actions, numbers.text),
        "videos": {camera: asdict(video) for camera, video in videos.items()},
    }
    meta.write_json(draft / _RECORD, record)
    for file in draft.iterdir():
        sync(file)
    draft.rename(folder)
    sync(folder.parent)
    return read_piece(folder)


def sound_piece(folder: Path) -> Piece | None:
    """The piece in a folder, if one was finished there and is still what it was; else the folder is removed."""
    if not folder.is_dir():
        return None
    try:
        numbers = (piece := read_piece(folder)).numbers()
        sound = numbers_hash(numbers.state, numbers.actions, piece.text) == piece.numbers_sha256 and all(
            scan(piece.clip(camera)).sha256 == video.packets_sha256 for camera, video in piece.videos.items()
        )
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile):
        sound = False
    if sound:
        return piece  # pyright: ignore[reportPossiblyUnboundVariable]
    shutil.rmtree(folder)
    return None


def read_piece(folder: Path) -> Piece:
    """A piece that `make_piece` has finished."""
    plain = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    videos = {camera: Video(**video) for camera, video in plain.pop("videos").items()}
    return Piece(folder=folder, videos=videos, **plain)


def _check(where: str, source: Source, numbers: Numbers) -> None:
    facts = source.facts
    expected = (("state", numbers.state, len(facts.state_names)), ("actions", numbers.actions, len(facts.action_names)))
    for name, values, width in expected:
        if values.shape != (numbers.length, width) or not numbers.length:
            raise InputError(
                where=f"{where}: {name}",
                expected=f"at least one step of {width} numbers, as in the first episode",
                got=f"shape {values.shape}",
                do=_leave_out(where),
            )
        if not np.isfinite(values).all():
            frame = int(np.argwhere(~np.isfinite(values))[0][0])
            raise InputError(
                where=f"{where}, frame {frame}: {name}",
                expected="finite numbers",
                got=str(values[frame].tolist()),
                do=_leave_out(where),
            )
    if not numbers.text.strip():
        do = f"Give --text, or leave it out: {_leave_out(where)}"
        raise InputError(where=where, expected="an instruction", got=repr(numbers.text), do=do)


def _leave_out(where: str) -> str:
    return f"Repair the episode, or add --leave-out {where.rsplit(' ', 1)[-1]}."


def _taken_over(where: str, clip: Clip, length: int, fps: float, counts: PixelCounts) -> Video | None:
    """The source's own file, if it holds this episode alone and one picture for every frame; else None."""
    if not clip.alone:
        return None
    told = scan(clip.path)
    if not told.is_row_of(length, fps):
        return None
    counts.count(decode(clip.path, picked(length) / fps, tolerance_s=0.5 / fps))
    return Video(
        file=str(clip.path.absolute()),
        taken_over=True,
        packets_sha256=told.sha256,
        frames_sha256="",
        psnr_db=LOSSLESS_DB,
    )


def _encoded(
    source: Source,
    index: int,
    camera: str,
    length: int,
    path: Path,
    counts: PixelCounts,
    *,
    lossless: bool,
    turned: bool,
) -> Video:
    """Encode the pictures of one camera, then read both again and compare."""
    facts, image_hw = source.facts, source.facts.cameras[camera]
    where = f"{facts.path}: episode {index}"
    video = VideoWriter(path, fps=facts.fps, image_hw=image_hw, lossless=lossless)
    first, done, wanted = hashlib.sha256(), 0, picked(length)
    for block in source.frames(index, camera):
        pictures = block[:, ::-1, ::-1] if turned else block
        if pictures.shape[1:] != (*image_hw, 3) or pictures.dtype != np.uint8 or done + len(pictures) > length:
            raise InputError(
                where=f"{where}: camera {camera}",
                expected=f"{length} pictures of {image_hw[0]} x {image_hw[1]} x 3, uint8",
                got=f"{pictures.dtype} {pictures.shape} from frame {done} on",
                do=_leave_out(where),
            )
        pictures = np.ascontiguousarray(pictures)
        video.append(pictures)
        counts.count(pictures[[frame - done for frame in wanted if done <= frame < done + len(pictures)]])
        first.update(pictures.data)
        done += len(pictures)
    video.close()
    if done != length:
        raise InputError(
            where=f"{where}: camera {camera}",
            expected=f"{length} pictures, one per step",
            got=str(done),
            do=_leave_out(where),
        )
    again, psnr_db = _compare(source, index, camera, path, turned=turned)
    if again != first.hexdigest() or psnr_db < (LOSSLESS_DB if lossless else MIN_PSNR_DB):
        raise InputError(
            where=f"{where}: camera {camera}, as written to {path}",
            expected="the pictures that were read" + ("" if lossless else f", to {MIN_PSNR_DB:g} dB or better"),
            got=f"{psnr_db:.1f} dB" if again == first.hexdigest() else "other pictures when the source is read again",
            do="Check the disk and the source; with --lossless no picture may differ at all.",
        )
    return Video(
        file=path.name,
        taken_over=False,
        packets_sha256=scan(path).sha256,
        frames_sha256=again,
        psnr_db=psnr_db,
    )


def _compare(source: Source, index: int, camera: str, path: Path, *, turned: bool) -> tuple[str, float]:
    """The hash of the source's pictures, read again, and the PSNR of the written picture that differs most."""
    fps, total, done, worst = source.facts.fps, hashlib.sha256(), 0, 0.0
    for block in source.frames(index, camera):
        pictures = np.ascontiguousarray(block[:, ::-1, ::-1] if turned else block)
        total.update(pictures.data)
        times = np.arange(done, done + len(pictures)) / fps
        written = decode(path, times, tolerance_s=0.5 / fps)
        for before, after in zip(pictures, written, strict=True):
            worst = max(worst, float(np.mean(np.square(before.astype(np.int32) - after), dtype=np.float64)))
        done += len(pictures)
    return total.hexdigest(), LOSSLESS_DB if worst == 0 else float(10 * np.log10(255**2 / worst))
