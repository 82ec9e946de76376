"""Encodes the video of each training window once, for phases that train on it while the autoencoder stays frozen.

A published autoencoder costs much beside a step (Wan 2.2: 3.3 TFLOP for nine frames of 224 x 448 pixels). Latents are
kept in half precision (they are of unit scale: 3 digits), memory-mapped, one file for each clip, named by all that
decides it: data, windows, preprocessing, weights. A file appears when it is complete; a process that was stopped goes
on where the last note says, and a second one waits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.latents import LatentCodec
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.storage import WRITTEN, Filling, cache_limit, default_root, filling_lock, in_use, is_whole, room
from crossroads.train.log import progress_bar
from crossroads.types import Batch

_BATCH = 8
_SAVE_EVERY_BATCHES = 32


@dataclass(frozen=True, kw_only=True)
class EncodedWindows:
    """Windows whose batches carry their latents, so that training encodes nothing; only ``rows`` may be asked for."""

    windows: Windows
    rows: np.ndarray
    """The windows that were encoded, in rising order."""
    maps: Mapping[str, np.ndarray]
    """Per clip (``VideoLatents.clip``) its latents ``[rows, t, h, w, c]``, half precision, read-only."""

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Some windows as one batch."""
        batch, chosen = self.windows.batch(indices), np.asarray(indices, np.int64)
        places = np.searchsorted(self.rows, chosen).clip(max=len(self.rows) - 1)
        if not np.array_equal(self.rows[places], chosen):
            raise IndexError(f"EncodedWindows.batch: expected windows that were encoded, got {chosen.tolist()}.")
        encoded = {clip: torch.from_numpy(np.asarray(kept[places])) for clip, kept in self.maps.items()}
        return replace(batch, obs=replace(batch.obs, encoded=encoded))


def encoded_windows(
    policy: StreamPolicy,
    windows: Windows,
    rows: np.ndarray,
    *,
    device: str = "cpu",
    root: Path | None = None,
    progress: bool = True,
) -> EncodedWindows:
    """The windows ``rows`` with the latents that the policy's present phase reads, from disk or encoded now.

    Raises ``InputError`` for a phase that reads no future video.
    """
    codecs: dict[str, LatentCodec] = {}
    for name in sorted(policy.groups()):
        codec = policy.net.codec(name)
        if isinstance(codec, LatentCodec) and codec.spec.future_s:
            codecs[codec.spec.clip] = codec
    if not codecs:
        raise InputError(
            where=f"latents of {policy.recipe.name}, phase {policy.phase.name}",
            expected="a phase that reads video latents",
            got="none",
            do="Train without kept latents.",
        )
    chosen = np.unique(rows)
    place = root or default_root()
    folder = place / "latents" / windows.dataset.content_hash()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    maps: dict[str, np.ndarray] = {}
    encoded = EncodedWindows(windows=windows, rows=chosen, maps=maps)
    for clip, codec in codecs.items():
        path = folder / f"{_name(codec, windows, chosen)}.f16"
        (height, width), spec = codec.spec.latent_hw, codec.spec
        shape = (len(chosen), 1 + spec.num_future, height, width, spec.autoencoder.channels)
        in_use(path, encoded)
        if not is_whole(path):
            with filling_lock(path, wait=True):
                if not path.is_file():
                    codec.to(device)
                    _build(codec, windows, chosen, path, place, shape, device, progress)
        maps[clip] = np.memmap(path, np.float16, "r", shape=shape)
    return encoded


def _name(codec: LatentCodec, windows: Windows, rows: np.ndarray) -> str:
    """From the episode and frame of each window (the folder names the data), the preprocessing and the weights."""
    places = np.asarray(windows.places(), np.int64)[rows]
    told = [codec.spec.clip, codec.autoencoder.identity(), hashlib.sha256(places.tobytes()).hexdigest()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _build(
    codec: LatentCodec,
    windows: Windows,
    rows: np.ndarray,
    path: Path,
    root: Path,
    shape: tuple[int, ...],
    device: str,
    progress: bool,
) -> None:
    """Encode batch by batch into ``<name>.part``, marking those that are there."""
    starts = range(0, len(rows), _BATCH)
    file = Filling(path=path, num_bytes=2 * math.prod(shape), num_units=len(starts))
    with room(root, path, file.num_bytes, cache_limit()) as free:
        if free < file.num_bytes:
            raise InputError(
                where=str(path),
                expected=f"{file.num_bytes / 1e9:.3g} GB for latents inside CROSSROADS_CACHE_GB",
                got=f"{free / 1e9:.3g} GB that are not in use",
                do="Raise the limit, or train without kept latents.",
            )
        marks = file.begin()
    kept = np.memmap(file.part, np.float16, "r+", shape=shape)
    left = np.flatnonzero(marks == 0)
    done = min(_BATCH * (len(starts) - len(left)), len(rows))
    with progress_bar(total=len(rows), initial=done, title="encode video", shown=progress) as bar:
        for number, unit in enumerate(left.tolist(), start=1):
            start = starts[unit]
            chosen = rows[start : start + _BATCH]
            batch = windows.batch(chosen).to(device)
            kept[start : start + len(chosen)] = _half(codec.encode(batch.obs.images, batch.future))
            marks[unit] = WRITTEN
            bar.update(len(chosen))
            if number % _SAVE_EVERY_BATCHES == 0:
                file.settle(marks)
    del kept
    file.end()


def _half(latents: Float[Tensor, "b t h w c"]) -> np.ndarray:
    """Half precision, which ends at 65504: latents are of unit scale, and what is not would be lost without a word."""
    found = latents.half()
    if not found.isfinite().all():
        raise InputError(
            where="latent cache",
            expected="latents of about unit scale",
            got=f"up to {latents.abs().max().item():g}",
            do="Check the autoencoder's weights and its latents_mean and latents_std.",
        )
    return found.cpu().numpy()
