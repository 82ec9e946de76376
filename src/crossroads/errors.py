"""Errors that say where, what was expected, what came, and what to do; and the nearest name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something a person wrote or handed over is wrong; the message has four parts."""

    def __init__(self, *, where: str, expected: str, got: str, do: str) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}. {do}")
        self.where, self.expected, self.got, self.do = where, expected, got, do

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes: the four parts are all there is."""
        return _again, (type(self), self.where, self.expected, self.got, self.do)


def _again(kind: type[InputError], where: str, expected: str, got: str, do: str) -> InputError:
    return kind(where=where, expected=expected, got=got, do=do)


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known spelling, or lists what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
