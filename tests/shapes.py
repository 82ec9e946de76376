"""The run-time type checker behind ``--jaxtyping-packages``: beartype, except where a hint cannot be checked at all.

A plain ``Protocol`` has no ``isinstance``, and ``Self`` means nothing to a checker that sees one method at a time.
A signature with one of these is left unchecked instead of failing the import; ``@runtime_checkable`` wins it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception, BeartypeDecorHintPep3119Exception

# An int is welcome where a float is asked for (PEP 484), as every type checker and every person reads it.
CHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True))
Checked = TypeVar("Checked", bound=Callable[..., object])


def check(function: Checked) -> Checked:
    """``function`` with its arguments and result checked at each call, where its hints allow that."""
    try:
        return CHECKER(function)
    except (BeartypeDecorHintPep673Exception, BeartypeDecorHintPep3119Exception):
        return function
