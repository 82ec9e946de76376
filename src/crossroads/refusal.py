"""How a recipe is refused: the part of it that is checked, and the error that names the place and the way out."""

from __future__ import annotations

from typing import Any, Protocol

from crossroads.errors import InputError, nearest
from crossroads.stage import Phase, Stage


class Checked(Protocol):
    """The part of a recipe that has a meaning to be checked."""

    @property
    def name(self) -> str: ...

    @property
    def stage(self) -> Stage: ...

    @property
    def phases(self) -> tuple[Phase, ...]: ...


def refuse(recipe: Checked, place: str, expected: str, got: str, known: Any) -> None:
    """Raises an ``InputError``; ``known`` are the names that might have been meant, if it is about a name."""
    do = nearest(got.strip("'"), known) if known else "Change the recipe."
    raise InputError(where=f"recipe {recipe.name!r}, {place}", expected=expected, got=got, do=do)
