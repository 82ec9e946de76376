"""Which format a path holds, told by what is in it; and the reader for it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from crossroads.data import meta
from crossroads.data.formats.hdf5_files import hdf5_files, is_hdf5
from crossroads.data.formats.source import Source, Wanted
from crossroads.errors import InputError, nearest

FORMATS: Mapping[str, str] = {
    "lerobot": "LeRobotDataset v3.0, v2.1 or v2.0, also with GR00T's modality.json (a folder with meta/info.json)",
    "hdf5": "robomimic or LIBERO (an HDF5 file with groups data/demo_N, or a folder of them)",
    "zarr": "a replay buffer of Diffusion Policy or UMI (a Zarr folder or zip with meta/episode_ends)",
    "rlds": "RLDS of TensorFlow Datasets (a folder with features.json and TFRecord shards)",
}
"""Everything that can be read, and how it is recognised."""
_ZARR_MARKS = (".zgroup", "zarr.json", ".zmetadata")


def recognise(path: Path) -> tuple[str, ...]:
    """The formats whose mark is found at `path`, in the order of `FORMATS`; empty when none is."""
    found = []
    if path.is_dir():
        if (path / meta.INFO_PATH).is_file():
            found.append("lerobot")
        if hdf5_files(path):
            found.append("hdf5")
        if any((path / mark).is_file() for mark in _ZARR_MARKS):
            found.append("zarr")
        if any(True for pattern in ("", "*/", "*/*/") for _ in path.glob(f"{pattern}features.json")):
            found.append("rlds")
    elif path.is_file():
        if is_hdf5(path):
            found.append("hdf5")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if set(_ZARR_MARKS) & set(archive.namelist()):
                    found.append("zarr")
    return tuple(found)


def open_source(path: Path, wanted: Wanted, *, format: str | None = None) -> Source:
    """The episodes at `path`. Raises `InputError` when the format is unknown, ambiguous, or the files are not sound."""
    if not path.exists():
        raise InputError(
            where=str(path), expected="a file or folder", got="nothing there", do="Check the path you gave."
        )
    if format is not None and format not in FORMATS:
        raise InputError(where="--from", expected="a format", got=repr(format), do=nearest(format, FORMATS))
    found = recognise(path) if format is None else (format,)
    if len(found) != 1:
        told = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
        raise InputError(
            where=str(path),
            expected="one known format",
            got=f"marks of {' and of '.join(found)}" if found else "none of their marks",
            do=f"Supported are {told}. Name the folder itself, or choose with --from.",
        )
    # Each reader needs packages of its own, so it is imported when it is asked for.
    if found[0] == "lerobot":
        from crossroads.data.formats.lerobot import open_lerobot

        return open_lerobot(path, wanted)
    if found[0] == "hdf5":
        from crossroads.data.formats.hdf5 import open_hdf5

        return open_hdf5(path, wanted)
    if found[0] == "zarr":
        from crossroads.data.formats.zarr_replay import open_zarr

        return open_zarr(path, wanted)
    from crossroads.data.formats.rlds import open_rlds

    return open_rlds(path, wanted)
