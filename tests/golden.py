"""Golden cases: small tensors recorded from published code, and the loader that every parity test uses.

A case is a folder ``<system>/<case>/`` with ``meta.json`` (constructor arguments, conventions, tolerances) and up to
three safetensors files: ``weights``, ``inputs``, ``outputs``. The folder of all cases lies beside the repository
(``../shared/golden``) or wherever ``CROSSROADS_GOLDEN`` points; a test without it skips and says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from crossroads.errors import nearest

REPOSITORY = Path(__file__).resolve().parent.parent
VARIABLE = "CROSSROADS_GOLDEN"


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """One recorded case: how the published module was built, what went in, and what came out."""

    system: str
    case: str
    folder: Path
    meta: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def tolerance_of(self, output: str) -> tuple[float, float]:
        """(absolute, relative) tolerance for one named output, as the recording advises.

        Recordings give an absolute tolerance per output (``suggested_abs_tolerance_per_output``, with no relative
        part), or one ``atol`` and ``rtol`` for all, or ``final_outputs_abs``; the first that exists counts.
        """
        per_output = self.meta.get("suggested_abs_tolerance_per_output", {})
        if output in per_output:
            return float(per_output[output]), 0.0
        advised = self.meta["tolerance"]
        if "atol" in advised:
            return float(advised["atol"]), float(advised["rtol"])
        if "final_outputs_abs" in advised:
            return float(advised["final_outputs_abs"]), 0.0
        raise ValueError(
            f"golden {self.system}/{self.case}, output {output!r}: expected atol or final_outputs_abs in the "
            f"tolerance, got {sorted(advised)}. Pass the tolerance to assert_close yourself."
        )

    def assert_close(self, output: str, ours: Tensor, *, atol: float | None = None, rtol: float | None = None) -> None:
        """Fail unless ``ours`` equals the recorded output within its tolerance; integers must be equal exactly."""
        if output not in self.outputs:
            raise KeyError(
                f"golden {self.system}/{self.case} has no output {output!r}. {nearest(output, self.outputs)}"
            )
        expected = self.outputs[output]
        if not expected.is_floating_point():
            torch.testing.assert_close(ours, expected, atol=0, rtol=0)
            return
        if atol is None and rtol is None:
            atol, rtol = self.tolerance_of(output)
        torch.testing.assert_close(ours.to(expected.dtype), expected, atol=atol or 0.0, rtol=rtol or 0.0)


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


def load_golden(system: str, case: str = "a") -> GoldenCase:
    """Read one case; skips the calling test, saying why, where the golden folder is missing."""
    root = golden_root()
    if root is None:
        pytest.skip(f"no golden tensors: neither ../shared/golden nor ${VARIABLE} is a folder on this machine")
    folder = root / system / case
    if not folder.is_dir():
        raise FileNotFoundError(f"no golden case {system}/{case}. {nearest(system, golden_systems())}")

    def tensors(name: str) -> dict[str, Tensor]:
        path = folder / f"{name}.safetensors"
        return load_file(path) if path.exists() else {}

    return GoldenCase(
        system=system,
        case=case,
        folder=folder,
        meta=json.loads((folder / "meta.json").read_text()),
        weights=tensors("weights"),
        inputs=tensors("inputs"),
        outputs=tensors("outputs"),
    )
