"""Golden cases in tests: where their folder is, and how a test without it skips.

The folder of all cases (``<system>/<case>/``, see :mod:`crossroads.parity.case`) lies beside the repository
(``../shared/golden``) or wherever ``CROSSROADS_GOLDEN`` points; a test without it skips and says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossroads.errors import nearest
from crossroads.parity.case import GoldenCase, load_case

REPOSITORY = Path(__file__).resolve().parent.parent
VARIABLE = "CROSSROADS_GOLDEN"


def golden_root() -> Path | None:
    """The folder of all golden cases, or None where this machine has none."""
    stated = os.environ.get(VARIABLE)
    root = Path(stated) if stated else REPOSITORY.parent / "shared" / "golden"
    return root if root.is_dir() else None


def golden_systems() -> tuple[str, ...]:
    """Names of all recorded systems; empty without the golden folder."""
    root = golden_root()
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir())) if root else ()


def golden_cases(system: str) -> tuple[str, ...]:
    """Names of the recorded cases of a system; just "a" without the golden folder, so that its tests skip loudly."""
    root = golden_root()
    folder = root / system if root else None
    return tuple(sorted(path.name for path in folder.iterdir())) if folder and folder.is_dir() else ("a",)


def golden_case_folder(system: str, case: str = "a") -> Path:
    """The folder of one case; skips the calling test, saying why, where the golden folder is missing."""
    root = golden_root()
    if root is None:
        pytest.skip(f"no golden tensors: neither ../shared/golden nor ${VARIABLE} is a folder on this machine")
    folder = root / system / case
    if not folder.is_dir():
        raise FileNotFoundError(f"no golden case {system}/{case}. {nearest(system, golden_systems())}")
    return folder


def load_golden(system: str, case: str = "a") -> GoldenCase:
    """Read one case; skips as :func:`golden_case_folder` does."""
    return load_case(golden_case_folder(system, case))
