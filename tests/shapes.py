"""The run-time type checker behind ``--jaxtyping-packages``: beartype, except where a hint cannot be checked at all.

A plain ``Protocol`` has no ``isinstance``, and ``Self`` means nothing to a checker that sees one method at a time.
A signature with one of these is left unchecked instead of failing the import; ``@runtime_checkable`` wins it back.

jaxtyping's import hook writes ``@jaxtyping.jaxtyped(typechecker=shapes.check)`` above every function and class. What it
names checks each argument twice and binds each call's signature, in functions without an array too, which took a
quarter of the suite's time; :func:`once` stands in its place and checks as much, once. The hook imports this module
for the first function that it decorates.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception, BeartypeDecorHintPep3119Exception

# An int is welcome where a float is asked for (PEP 484), as every type checker and every person reads it.
CHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
SCOPE = functools.partial(jaxtyping.jaxtyped, "context")
Checked = TypeVar("Checked", bound=Callable[..., object])


def check(function: Checked) -> Checked:
    """``function`` with its arguments and result checked at each call, where its hints allow that."""
    try:
        return CHECKER(function)
    except (BeartypeDecorHintPep673Exception, BeartypeDecorHintPep3119Exception):
        return function


def once(what: Any = None, *, typechecker: Any = None) -> Any:
    """A function, or a dataclass by what makes it, whose hints are checked at each call.

    Axes of one name have one size within a call: a function whose hints name arrays is a scope of its own.
    """
    if what is None:
        return once
    if inspect.isclass(what):
        made = vars(what).get("__init__")
        if is_dataclass(what) and made is not None and not hasattr(made, "__wrapped__"):
            what.__init__ = once(made)
        return what
    written, hints = what.__annotations__, _resolved(what)
    what.__annotations__ = hints
    checked = check(what)
    what.__annotations__ = written
    if checked is what or not any(map(_holds_array, hints.values())):
        return checked

    @functools.wraps(what)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with SCOPE():
            return checked(*args, **kwargs)

    return alone


def _resolved(function: Callable[..., object]) -> dict[str, Any]:
    """A function's hints, but for those that name what is not there at run time or not yet."""
    found = {}
    for name, hint in function.__annotations__.items():
        try:
            found[name] = eval(hint, function.__globals__) if isinstance(hint, str) else hint
        except NameError:
            continue
    return found


def _holds_array(hint: Any) -> bool:
    if isinstance(hint, list):  # the arguments of a callable
        return any(map(_holds_array, hint))
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_holds_array, get_args(hint)))


jaxtyping.jaxtyped = once
