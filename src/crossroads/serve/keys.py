"""Which of our cameras, state numbers and words go under which names of a foreign policy's observation map.

The names without a file are those of openpi's LIBERO example (examples/libero/main.py): ``observation/image``,
``observation/wrist_image``, ``observation/state``, ``prompt``: the present moment, with no key for frames that have
passed. Another policy is described by a TOML file::

    image_size = 224
    prompt = "prompt"

    [images]
    "observation/exterior_image_1_left" = "front"

    [state]
    "observation/joint_position" = ["x", "y", "z"]
    "observation/gripper_position" = ["jaw_m"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from crossroads.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class RemoteKeys:
    """The names that a foreign policy wants, and where each value comes from here."""

    images: Mapping[str, str]
    """Request key to camera; pictures are sent as uint8 ``(h, w, 3)``, red first."""
    state: Mapping[str, tuple[str, ...]]
    """Request key to names of state numbers, in that order; no name means all. Sent as float32 vectors."""
    prompt: str
    """Request key of the instruction."""
    image_size: int
    """Pixels of a side; pictures are rendered at this size, not enlarged afterwards."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Every camera that is asked for, once."""
        return tuple(dict.fromkeys(self.images.values()))

    def check(self, *, cameras: Collection[str], state_names: Collection[str], where: str) -> None:
        """Refuse a camera or a state number that the robot lacks."""
        for name in self.images.values():
            if name not in cameras:
                raise InputError(where=where, expected="a camera", got=repr(name), do=nearest(name, cameras))
        for name in (name for names in self.state.values() for name in names):
            if name not in state_names:
                raise InputError(where=where, expected="a state number", got=repr(name), do=nearest(name, state_names))


LIBERO = RemoteKeys(
    images={"observation/image": "front", "observation/wrist_image": "wrist"},
    state={"observation/state": ()},
    prompt="prompt",
    image_size=64,
)
"""The names of openpi's LIBERO example, at the size in which this world is recorded."""


def read_keys(path: Path) -> RemoteKeys:
    """The names in a TOML file; what it leaves out is as in openpi's LIBERO example.

    Raises:
        InputError: no such file, no TOML, an unknown entry or a value of another kind.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            where=str(path), expected="a TOML file", got=error.strerror or str(error), do="Check --remote-keys."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(where=str(path), expected="TOML", got=str(error), do="Correct the file.") from error
    known = {field.name for field in fields(RemoteKeys)}
    for name in given:
        if name not in known:
            raise InputError(where=str(path), expected="a known entry", got=repr(name), do=nearest(name, known))
    kinds = {"images": _is_texts, "state": _is_names, "prompt": _is_text, "image_size": _is_size}
    expected = {
        "images": "a table from request key to camera",
        "state": "a table from request key to a list of state names (an empty list: all)",
        "prompt": "a request key",
        "image_size": "a whole number of pixels, at least 8",
    }
    for name, value in given.items():
        if not kinds[name](value):
            raise InputError(where=f"{path}, {name}", expected=expected[name], got=repr(value), do="Correct the file.")
    if "state" in given:
        given["state"] = {key: tuple(names) for key, names in given["state"].items()}
    return replace(LIBERO, **given)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(item) for item in value.values())


def _is_names(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(names, list) and all(_is_text(name) for name in names) for names in value.values()
    )


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 8
