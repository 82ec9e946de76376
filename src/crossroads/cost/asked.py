"""What ``crossroads cost`` can be asked, and which options mean something to each question."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from crossroads.errors import InputError

Question = Literal["recipe", "ledger", "ratio", "flop"]
_RATES = frozenset({"hardware", "utilisation", "power_share", "price_per_hour"})
_OPTIONS: Mapping[Question, frozenset[str]] = {
    "recipe": _RATES | {"size", "phase", "data", "batch_size", "steps", "samples", "epochs", "text_tokens"},
    "ledger": frozenset(),
    "ratio": frozenset({"across_bases"}),
    "flop": _RATES,
}


def question(given: Mapping[str, object]) -> Question:
    """The one question that the given options ask; options that were left out are None or False.

    Raises:
        InputError: no question, two of them, or an option that means nothing to this one (it would be ignored).
    """
    stated = [name for name, value in given.items() if value is not None and value is not False]
    asked: list[Question] = [name for name in _OPTIONS if name in stated]
    if len(asked) != 1:
        raise InputError(
            where="crossroads cost",
            expected="one of RECIPE, --ledger, --ratio ROW ROW and --flop NUMBER",
            got=" and ".join(_spelt(name) for name in asked) or "none of them",
            do="`crossroads recipes` lists the recipes." if not asked else "Ask for one at a time.",
        )
    (found,) = asked
    for name in stated:
        if name not in (found, "json") and name not in _OPTIONS[found]:
            users = ", ".join(_spelt(other) for other, options in _OPTIONS.items() if name in options)
            raise InputError(
                where=f"crossroads cost, {_spelt(found)}",
                expected="options that mean something here",
                got=_spelt(name),
                do=f"Leave it out; it belongs to {users}.",
            )
    return found


def write_answer(path: Path, values: Mapping[str, Any]) -> None:
    """An answer as a JSON file."""
    try:
        path.write_text(json.dumps(values, indent=1) + "\n")
    except OSError as error:
        raise InputError(
            where="crossroads cost, --json",
            expected="a file that can be written",
            got=f"{path}: {error.strerror}",
            do="Choose another file, in a folder that exists.",
        ) from error


def _spelt(name: str) -> str:
    return "RECIPE" if name == "recipe" else f"--{name.replace('_', '-')}"
