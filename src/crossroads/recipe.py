"""A recipe: one published system as a frozen value, with what its paper claims and where we depart from it.

A recipe reads no weights and touches no device; ``build`` turns it into a policy. Two recipes are compared by their
structural diff, and a variant is a recipe with some values changed.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from crossroads.checks import check
from crossroads.errors import InputError, nearest
from crossroads.stage import Phase, Stage
from crossroads.streams import Edge
from crossroads.types import Window

Paradigm = Literal["inverse_dynamics", "joint_prediction", "representation_only", "no_future"]
Architecture = Literal["monolithic", "mixture_of_transformers", "hierarchical"]
Integration = Literal["tokens", "image", "latent", "none"]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Where a design stands: what it does with the future, how its towers meet, how actions enter."""

    paradigm: Paradigm
    architecture: Architecture
    integration: Integration


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published system. ``departs``: every difference from the paper, in words. ``because``: for an axis that
    the structure contradicts, the reason why the paper's label is kept. What is said of a recipe does not make it
    another one: recipes with equal stages and phases are equal."""

    name: str
    paper: str = field(compare=False)
    stage: Stage
    phases: tuple[Phase, ...]
    axes: Axes = field(compare=False)
    departs: tuple[str, ...] = field(default=(), compare=False)
    because: tuple[str, ...] = field(default=(), compare=False)

    @property
    def window(self) -> Window:
        return self.stage.window()

    @property
    def chunk(self) -> Window:
        """The part of the window that one call of ``act`` is about: its first block where acting goes on by block, or
        what is predicted at one observed step where it looks back at several, or from the present on where it glances
        back."""
        window, clock = self.window, self.stage.clock
        if self.stage.looks_back > 1:
            action = next(stream.name for stream in self.stage.streams if stream.carries == "action")
            return replace(window, num_actions=clock.per_block(action), future_s=(), later_state_s=())
        if (num := self.stage.glances) > 1:
            before = (num - 1) * round(clock.block_s * window.control_hz)
            return replace(window, num_actions=window.num_actions - before, future_s=(), later_state_s=())
        if not self.stage.by_block:
            return window
        stream = self.stage.layout.groups[self.stage.remembered[0]].stream
        num = clock.num_blocks(stream.name, stream.codec.num_tokens("noised"))
        future_s = window.future_s[: len(window.future_s) // num]
        return replace(window, num_actions=window.num_actions // num, future_s=future_s, later_state_s=())

    def phase(self, name: str) -> Phase:
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise InputError(
            where=f"recipe {self.name!r}",
            expected="the name of a phase",
            got=repr(name),
            do=nearest(name, [phase.name for phase in self.phases]),
        )

    def vary(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with values changed by dotted path, for instance ``{"stage.streams.action.objective.weight": 2.0}``.

        A member of a tuple is addressed by its ``name`` or by its number.
        """
        varied = self
        for path, value in changes.items():
            varied = _changed(varied, path.split("."), value, f"recipe {self.name!r}, {path}")
        varied.validate()
        return varied

    def validate(self) -> None:
        """Refuse a recipe that cannot mean what it says; the message names the place and the way out."""
        check(self)


def diff(a: Recipe, b: Recipe) -> str:
    """What differs between two recipes, leaf by leaf, as ``path: a | b``; the matched comparison prints this first."""
    left, right = dict(leaves(a)), dict(leaves(b))
    lines = [f"{'':60} {a.name} | {b.name}"]
    for path in sorted(left.keys() | right.keys()):
        if path in ("name", "paper") or path.startswith("departs"):
            continue
        first, second = left.get(path, "-"), right.get(path, "-")
        if first != second:
            lines.append(f"{path:60} {first} | {second}")
    return "\n".join(lines) if len(lines) > 1 else f"{a.name} and {b.name} do not differ."


def leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every plain value of a frozen structure with its dotted path; members of tuples go by name where they have one.

    An edge is one leaf: its endpoints are its path, so that the diff reads as "this edge is here and not there".
    """
    if isinstance(value, Edge):
        kind = value.via + ("" if value.grad else ", gradient cut") + ("" if value.when == "all" else f", {value.when}")
        rest = {"window": value.window, "layers": value.layers, "tap": value.tap}
        return [(path, kind + "".join(f", {name} {given}" for name, given in rest.items() if given is not None))]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        head = [(path, type(value).__name__)] if path else []
        parts = [(part.name, getattr(value, part.name)) for part in dataclasses.fields(value)]
        return head + [leaf for name, part in parts for leaf in leaves(part, f"{path}.{name}".lstrip("."))]
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        members = [(_label(part, index), part) for index, part in enumerate(value)]
        return [leaf for label, part in members for leaf in leaves(part, f"{path}.{label}")]
    if isinstance(value, tuple) and len(value) > 12:
        return [(path, f"{len(value)} values, {zlib.crc32(repr(value).encode()):08x}")]
    return [(path, str(value).replace("\n", "\\n"))]


def _label(part: Any, index: int) -> str:
    if isinstance(part, Edge):
        return f"{part.dst} <- {part.src}"
    return getattr(part, "name", None) or getattr(part, "kind", None) or str(index)


def _changed(value: Any, path: list[str], new: Any, where: str) -> Any:
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, tuple):
        labels = [_label(part, index) for index, part in enumerate(value)]
        chosen = labels.index(head) if head in labels else int(head) if head.isdigit() else -1
        if not 0 <= chosen < len(value):
            raise InputError(where=where, expected="a member", got=repr(head), do=nearest(head, labels))
        return (*value[:chosen], _changed(value[chosen], rest, new, where), *value[chosen + 1 :])
    names = [part.name for part in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
    if head not in names:
        raise InputError(where=where, expected="a field", got=repr(head), do=nearest(head, names))
    return replace(value, **{head: _changed(getattr(value, head), rest, new, where)})  # pyright: ignore[reportArgumentType]
