"""Files appear whole or not at all, and a disk that is too full says so before anything is written to it."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from crossroads import storage
from crossroads.errors import InputError
from crossroads.storage import (
    SETTLED,
    WRITTEN,
    Filling,
    appearing_folder,
    cache_limit,
    filling_lock,
    in_use,
    reserve,
    room,
)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were asked for, each time."""
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda file, start, length: asked.append(length), raising=False)
    return asked


@pytest.mark.skipif(sys.platform != "linux", reason="sets bytes aside on Linux")
def test_a_reserved_file_has_its_length_and_its_bytes_and_keeps_what_it_held(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"head")
    reserve(path, 2**20, do="Free space.")
    assert path.read_bytes() == b"head" + bytes(2**20 - 4)
    assert path.stat().st_blocks * 512 >= 2**20
    reserve(path, 100, do="Free space.")
    assert path.stat().st_size == 100


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_there_and_leaves_nothing(
    full_disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_500_000_000))
    with pytest.raises(InputError) as caught:
        reserve(tmp_path / "file", 2_000_000_000, do="Free space.")
    assert (caught.value.where, caught.value.do) == (str(tmp_path / "file"), "Free space.")
    assert (caught.value.expected, caught.value.got) == ("2 GB free", "1.5 GB (No space left on device)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reason", [errno.EOPNOTSUPP, errno.EINVAL])
def test_where_bytes_cannot_be_set_aside_what_is_free_decides(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, start: int, length: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    reserve(tmp_path / "small", 1000, do="Free space.")
    assert (tmp_path / "small").stat().st_size == 1000
    with pytest.raises(InputError, match="GB free"):
        reserve(tmp_path / "large", 1001, do="Free space.")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_another_fault_of_the_disk_is_not_taken_for_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        reserve(tmp_path / "nowhere" / "file", 10, do="Free space.")


def test_a_file_that_is_filled_again_goes_on_where_it_was_and_asks_for_no_more(
    tmp_path: Path, counted: list[int]
) -> None:
    file = Filling(path=tmp_path / "kept.u8", num_bytes=64, num_units=4)
    marks = file.begin()
    assert marks.tolist() == [0, 0, 0, 0]
    marks[[0, 2]] = WRITTEN
    assert file.follow().tolist() == [1, 0, 1, 0], "one who reads along sees it at once"
    assert file.begin().tolist() == [1, 0, 1, 0]
    assert counted == [64]
    other = Filling(path=file.path, num_bytes=128, num_units=4)
    assert other.begin().tolist() == [0, 0, 0, 0], "of another length: not this file"
    assert counted == [64, 128]
    other.end()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.u8"]


def test_after_the_machine_stopped_only_what_was_settled_on_disk_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot"
    boot.write_text("first")
    monkeypatch.setattr(storage, "_BOOT", boot)
    file = Filling(path=tmp_path / "kept.u8", num_bytes=64, num_units=4)
    marks = file.begin()
    marks[0] = WRITTEN
    file.settle(marks)
    marks[1] = WRITTEN
    assert file.begin().tolist() == [SETTLED, WRITTEN, 0, 0]
    boot.write_text("second")
    assert file.begin().tolist() == [SETTLED, 0, 0, 0]
    boot.unlink()  # nobody knows
    marks[2] = WRITTEN
    assert file.begin().tolist() == [SETTLED, 0, 0, 0]


def _stored(root: Path, name: str, num_bytes: int, used_s: float) -> Path:
    path = root / "frames" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(num_bytes))
    path.with_suffix(".used").touch()
    os.utime(path.with_suffix(".used"), (used_s, used_s))
    return path


def test_what_was_not_used_for_longest_makes_room_but_nothing_that_is_in_use_or_being_filled(tmp_path: Path) -> None:
    class User:
        pass

    oldest, older, new = (_stored(tmp_path, f"{name}.u8", 100, used) for name, used in (("c", 1), ("a", 2), ("b", 3)))
    half = _stored(tmp_path, "half.part", 100, 0)
    user, path = User(), tmp_path / "frames" / "next.u8"
    in_use(oldest, user)
    with filling_lock(half.with_suffix(".u8"), wait=True), room(tmp_path, path, 150, 500) as free:
        assert free == 150
        assert [file.exists() for file in (oldest, older, new, half)] == [True, False, True, True]
    with filling_lock(half.with_suffix(".u8"), wait=True), room(tmp_path, path, 400, 500) as free:
        assert free == 300, "what cannot be removed is in the way"
        assert [file.exists() for file in (oldest, new, half)] == [True, False, True]
    del user
    with room(tmp_path, path, 400, 500) as free:
        assert free == 400
    with room(tmp_path, path, 501, 500) as free:
        assert free == 500
    with room(tmp_path, path, 501, None) as free:
        assert free == 501
    assert not oldest.exists()
    assert not half.exists()


@pytest.mark.parametrize("told", ["much", "-1", "inf", "nan"])
def test_a_limit_that_is_no_number_is_refused(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSROADS_CACHE_GB", "1.5")
    assert cache_limit() == 1_500_000_000
    monkeypatch.setenv("CROSSROADS_CACHE_GB", told)
    with pytest.raises(InputError, match="expected a number of gigabytes"):
        cache_limit()


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError])
def test_a_folder_appears_whole_or_not_at_all(fault: Callable[[], BaseException], tmp_path: Path) -> None:
    left = tmp_path / "out.partial" / "file of a killed writer"
    left.mkdir(parents=True)

    def write(broken: bool) -> None:
        with appearing_folder(tmp_path / "out") as draft:
            (draft / "file").write_text("half")
            if broken:
                raise fault()

    with pytest.raises(type(fault())):
        write(True)
    assert not list(tmp_path.iterdir())
    write(False)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "file"]
