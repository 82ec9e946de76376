"""What every test shares: one thread, its own cache folder, and the golden tensors.

Shapes in signatures are checked at run time in tests and only there, by the ``--jaxtyping-packages`` option in
pyproject.toml (jaxtyping's import hook with ``shapes.check``), so a user pays nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from golden import VARIABLE, GoldenCase, golden_root, load_golden

torch.set_num_threads(1)
# The same examples each time, and no deadline: a busy machine is not a failing test.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test writes caches into a folder of its own, never into the user's."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("CROSSROADS_CACHE", str(cache))
    return cache


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system has room for anything that asks before it writes."""

    def refuse(file: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)


@pytest.fixture(autouse=True)
def global_generator_left_alone() -> Iterator[None]:
    """Generators are passed, never global: what one test draws from the global one cannot reach the next."""
    state = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(state)


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The folder of golden tensors; skips loudly where there is none."""
    root = golden_root()
    if root is None:
        pytest.skip(f"no golden tensors: neither ../shared/golden nor ${VARIABLE} is a folder on this machine")
    return root


@pytest.fixture(scope="session")
def golden(golden_folder: Path) -> Callable[[str], GoldenCase]:
    """Loads a golden case by the name of its system."""

    def load(system: str) -> GoldenCase:
        assert golden_folder.is_dir()
        return load_golden(system)

    return load
