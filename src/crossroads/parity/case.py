"""A golden case: small tensors recorded from published code, and how close a reimplementation must come to them.

A case is a folder with ``meta.json`` (which system, constructor arguments, conventions, tolerances) and safetensors
files: ``inputs``, ``outputs`` and, for a network, ``weights``. Whatever a case lacks ends in an ``InputError``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from crossroads.errors import InputError, nearest

T = TypeVar("T")


class Named(Mapping[str, T]):
    """What a case recorded under names; asking for what is not there says where, and suggests the nearest name."""

    def __init__(self, values: Mapping[str, T], where: str) -> None:
        self._values, self.where = dict(values), where

    def __getitem__(self, name: str) -> T:
        if name not in self._values:
            raise InputError(where=self.where, expected=repr(name), got="no such entry", do=nearest(name, self._values))
        value = self._values[name]
        return Named(value, f"{self.where}.{name}") if isinstance(value, dict) else value  # pyright: ignore[reportReturnType]

    def get(self, key: str, default: Any = None, /) -> Any:
        """What is recorded under a name, or the default: a switch that a constructor was not given."""
        if key not in self._values:
            return default
        return self[key]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def demand(self, wanted: Mapping[str, object]) -> None:
        """Refuse a case that was built with a setting of which crossroads has only one form."""
        for name, value in wanted.items():
            if name in self and self._values[name] != value:
                raise InputError(
                    where=f"{self.where}.{name}",
                    expected=repr(value),
                    got=repr(self._values[name]),
                    do="crossroads has no other form of this network.",
                )


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Ours may differ from what was recorded by ``absolute + relative * |recorded|``."""

    absolute: float
    relative: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """One recorded case: how the published module was built, what went in, and what came out."""

    system: str
    folder: Path
    meta: Named[Any]
    weights: Named[Tensor]
    inputs: Named[Tensor]
    outputs: Named[Tensor]

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance of every output that has none of its own: ``atol`` and ``rtol``, or ``final_outputs_abs``."""
        advised = self.meta["tolerance"]
        if "atol" in advised:
            return Tolerance(absolute=float(advised["atol"]), relative=float(advised["rtol"]))
        return Tolerance(absolute=float(advised["final_outputs_abs"]))

    def tolerance_of(self, output: str) -> Tolerance:
        """The tolerance of one output, as the recording advises; what is not a float must be equal.

        ``suggested_abs_tolerance_per_output`` counts before the tolerance of all.
        """
        if not self.outputs[output].is_floating_point():
            return Tolerance(absolute=0.0)
        if (own := "suggested_abs_tolerance_per_output") in self.meta and output in self.meta[own]:
            return Tolerance(absolute=float(self.meta[own][output]))
        return self.tolerance


def load_case(folder: Path) -> GoldenCase:
    """Read the case in a folder."""
    if not folder.is_dir():
        raise InputError(
            where=f"golden case {folder}",
            expected="a folder with meta.json, inputs.safetensors and outputs.safetensors",
            got="a file" if folder.exists() else "nothing there",
            do="Name the folder of one case, <system>/<case>.",
        )
    meta = _meta(folder / "meta.json")
    system = meta["system"]
    if not isinstance(system, str):
        raise InputError(where=f"{meta.where}.system", expected="a name", got=repr(system), do="Record it again.")
    weights = folder / "weights.safetensors"
    return GoldenCase(
        system=system,
        folder=folder,
        meta=meta,
        weights=_tensors(weights) if weights.exists() else Named({}, str(weights)),
        inputs=_tensors(folder / "inputs.safetensors"),
        outputs=_tensors(folder / "outputs.safetensors"),
    )


def _meta(path: Path) -> Named[Any]:
    try:
        read = json.loads(path.read_text())
    except OSError as error:
        raise _unreadable(path, "a file", str(error) if path.exists() else "nothing there") from error
    except ValueError as error:  # neither UTF-8 nor JSON
        raise _unreadable(path, "JSON", str(error)) from error
    if not isinstance(read, dict):
        raise _unreadable(path, "a JSON object", type(read).__name__)
    return Named(read, str(path))


def _tensors(path: Path) -> Named[Tensor]:
    try:
        return Named(load_file(path), str(path))
    except OSError as error:
        raise _unreadable(path, "a file", str(error) if path.exists() else "nothing there") from error
    except SafetensorError as error:
        raise _unreadable(path, "tensors in the safetensors format", str(error)) from error


def _unreadable(path: Path, expected: str, got: str) -> InputError:
    return InputError(where=str(path), expected=expected, got=got, do="Copy the case again, or record it again.")
