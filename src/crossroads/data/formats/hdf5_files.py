"""Which files are HDF5 files, known without the package that reads them."""

from __future__ import annotations

from pathlib import Path

_HDF5_NAMES = (".hdf5", ".h5", ".hdf")
_HDF5_BEGINNING = b"\x89HDF\r\n\x1a\n"


def hdf5_files(path: Path) -> tuple[Path, ...]:
    """A file itself; of a folder all files below it that are named as HDF5 files and begin as such."""
    if path.is_file():
        return (path,)
    return tuple(file for file in sorted(path.rglob("*")) if file.suffix in _HDF5_NAMES and is_hdf5(file))


def is_hdf5(path: Path) -> bool:
    """Does the file begin as every HDF5 file does (HDF5 File Format Specification, section II.A)?"""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_HDF5_BEGINNING)) == _HDF5_BEGINNING
