"""Frozen dataclasses to plain JSON values and back, by their type hints: what is written is exactly what is read.

Only what reports are made of is known: dataclasses, tuples of one kind, dictionaries with text keys, optional values,
literals, numbers, text. Anything else, a missing or unknown field, or a number that is not finite, is an error.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from crossroads.errors import InputError, nearest

Value = TypeVar("Value")


def to_plain(value: object, where: str = "report") -> Any:
    """Nested dictionaries, lists, numbers and text; the place of a number that is not finite is named."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(
            where=where,
            expected="a finite number",
            got=str(value),
            do="Leave the entry out, or use None where the field allows it.",
        )
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(where=where, expected="plain values", got=type(value).__name__, do="Convert it to Python numbers.")


def from_plain(kind: type[Value], value: Any, where: str = "report") -> Value:
    """The value of this type that ``to_plain`` turned into ``value``."""
    return _read(kind, value, where)


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (kind,) = (choice for choice in inner if choice is not type(None))
        return _read(kind, value, where)
    if origin is Literal:
        return value if value in inner else _wrong(where, f"one of {inner}", value)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(inner[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _read(inner[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _read_dataclass(kind, value, where)
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    return _wrong(where, getattr(kind, "__name__", str(kind)), value)


def _read_dataclass(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    for name in value.keys() - names:
        raise InputError(where=where, expected=f"fields of {kind.__name__}", got=name, do=nearest(name, names))
    for name in names - value.keys():
        _wrong(f"{where}.{name}", "a value", "nothing")
    return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in sorted(names)})


def _wrong(where: str, expected: str, got: object) -> Any:
    raise InputError(
        where=where,
        expected=expected,
        got=repr(got)[:60],
        do="The file was edited or written by another version; make the report again.",
    )
