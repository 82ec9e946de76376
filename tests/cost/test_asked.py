"""One question at a time, and no option that would be ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossroads.cost.asked import question, write_answer
from crossroads.errors import InputError


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"recipe": "pi0", "size": "published", "data": Path("x"), "ledger": False, "json": Path("y")}, "recipe"),
        ({"ledger": True, "json": Path("y"), "ratio": None}, "ledger"),
        ({"ratio": ("a", "b"), "across_bases": True}, "ratio"),
        ({"flop": 0.0, "utilisation": 0.2}, "flop"),
    ],
)
def test_the_question_is_the_one_that_was_asked(given: dict[str, object], found: str) -> None:
    assert question(given) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": None, "ledger": False}, "got none of them. `crossroads recipes`"),
        ({"recipe": "pi0", "ledger": True}, "got RECIPE and --ledger"),
        ({"ledger": True, "steps": 3}, "got --steps. Leave it out; it belongs to RECIPE"),
        ({"recipe": "pi0", "across_bases": True}, "got --across-bases. Leave it out; it belongs to --ratio"),
        (
            {"ratio": ("a", "b"), "price_per_hour": 2.0},
            "got --price-per-hour. Leave it out; it belongs to RECIPE, --flop",
        ),
    ],
)
def test_no_question_two_of_them_or_an_option_without_meaning_is_refused(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        question(given)


def test_an_answer_is_written_or_its_place_is_named(tmp_path: Path) -> None:
    write_answer(tmp_path / "answer.json", {"flop": 1e21})
    assert json.loads((tmp_path / "answer.json").read_text()) == {"flop": 1e21}
    with pytest.raises(InputError, match="nowhere"):
        write_answer(tmp_path / "nowhere" / "answer.json", {})
