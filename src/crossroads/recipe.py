"""A recipe: one published system as a frozen value, with what its paper claims and where we depart from it.

A recipe reads no weights and touches no device; ``build`` turns it into a policy. Two recipes are compared by their
structural diff, and a variant is a recipe with some values changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from crossroads.errors import InputError, nearest
from crossroads.layout import Layout
from crossroads.schedule import Commit, Decode, Denoise, Leg, Predict, Read, moved
from crossroads.streams import Clock, Edge, Stream
from crossroads.towers.spec import TowerSpec
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
class Tower:
    """A named stack of weights; ``backbone`` names the shipped pretrained weights that it starts from, if any."""

    name: str
    spec: TowerSpec
    backbone: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One network with its own clock and schedule. ``sequence``: groups that share a running position index."""

    name: str
    streams: tuple[Stream, ...]
    edges: tuple[Edge, ...]
    towers: tuple[Tower, ...]
    schedule: tuple[Leg, ...]
    clock: Clock = Clock()
    sequence: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        return Layout.compile(self.streams, self.edges, self.clock)

    def stream(self, name: str) -> Stream:
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise InputError(
            where=f"stage {self.name!r}",
            expected="the name of a stream",
            got=repr(name),
            do=nearest(name, [stream.name for stream in self.streams]),
        )

    def window(self) -> Window:
        """What a dataset must deliver for this stage."""
        return Window.merge(tuple(stream.codec.window() for stream in self.streams))

    def outputs(self) -> tuple[str, ...]:
        """The principal groups of the streams that the schedule settles."""
        return tuple(name for leg in self.schedule for name in moved(leg))


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of training: which towers (with their streams' codecs) move, and which streams' losses count."""

    name: str
    trains: tuple[str, ...]
    losses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published system. ``departs``: every difference from the paper, in words. ``because``: for an axis that
    the structure contradicts, the reason why the paper's label is kept."""

    name: str
    paper: str
    stage: Stage
    phases: tuple[Phase, ...]
    axes: Axes
    departs: tuple[str, ...] = ()
    because: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        return self.stage.window()

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
        stage = self.stage
        layout = stage.layout
        towers = {tower.name: tower for tower in stage.towers}
        for stream in stage.streams:
            if stream.tower not in towers:
                _refuse(self, f"stream {stream.name}", "a tower of this stage", repr(stream.tower), towers)
            if stream.shares and stream.shares not in [other.name for other in stage.streams]:
                _refuse(self, f"stream {stream.name}", "a stream to share weights with", repr(stream.shares), ())
        for joint in layout.joints():
            geometries = {name: towers[name].spec.geometry for name in joint}
            if len(set(geometries.values())) > 1:
                raise InputError(
                    where=f"recipe {self.name!r}, joint edges between {sorted(joint)}",
                    expected="equal depth and head geometry in one softmax",
                    got=", ".join(f"{name}: {geometry}" for name, geometry in sorted(geometries.items())),
                    do="Give the fresh tower the backbone's geometry, or read it by a cross edge.",
                )
        for edge in layout.edges:
            if edge.via == "value":
                _refuse(self, f"edge {edge.dst} <- {edge.src}", "value edges only between stages", "one inside", ())
            _check_modulated(self, edge, layout, towers)
        _check_cuts(self, layout)
        _check_schedule(self, layout)
        trained = {name for phase in self.phases for name in phase.trains}
        if not trained <= set(towers):
            _refuse(self, "phases", "towers of this stage", str(sorted(trained - set(towers))), towers)
        _check_posteriors(self, layout)


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
        return [(path, kind)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        head = [(path, type(value).__name__)] if path else []
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return head + [leaf for name, part in parts for leaf in leaves(part, f"{path}.{name}".lstrip("."))]
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        members = [(_label(part, index), part) for index, part in enumerate(value)]
        return [leaf for label, part in members for leaf in leaves(part, f"{path}.{label}")]
    if isinstance(value, tuple) and len(value) > 12:
        return [(path, f"{len(value)} values, {hash(value) & 0xFFFF:04x}")]
    return [(path, str(value))]


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
    names = [field.name for field in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
    if head not in names:
        raise InputError(where=where, expected="a field", got=repr(head), do=nearest(head, names))
    return replace(value, **{head: _changed(getattr(value, head), rest, new, where)})


def _refuse(recipe: Recipe, place: str, expected: str, got: str, known: Any) -> None:
    do = nearest(got.strip("'"), known) if known else "Change the recipe."
    raise InputError(where=f"recipe {recipe.name!r}, {place}", expected=expected, got=got, do=do)


def _check_modulated(recipe: Recipe, edge: Edge, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """Cross and modulate edges need a tower that can be crossed or told; the groups of a tower share one context."""
    if edge.via not in ("cross", "modulate"):
        return
    spec = towers[layout.groups[edge.dst].tower].spec
    width = getattr(spec, "context_width", None)
    if width is None or (edge.via == "cross" and width == 0):
        _refuse(recipe, f"edge {edge.dst} <- {edge.src}", f"a tower that takes {edge.via} edges", str(spec), ())
    source = towers[layout.groups[edge.src].tower].spec
    if edge.via == "cross" and width != source.width:
        _refuse(
            recipe,
            f"edge {edge.dst} <- {edge.src}",
            f"context_width {source.width}, the width of the tower that is read",
            str(width),
            (),
        )


def _check_cuts(recipe: Recipe, layout: Layout) -> None:
    """A cut edge means that no gradient of ``dst`` reaches ``src``: every other path must be cut as well."""
    for cut in [edge for edge in layout.edges if not edge.grad]:
        frontier, reached = [cut.dst], {cut.dst}
        while frontier:
            dst = frontier.pop()
            for edge in layout.edges:
                if edge.dst == dst and edge.grad and edge.src not in reached:
                    reached.add(edge.src)
                    frontier.append(edge.src)
        if cut.src in reached - {cut.dst}:
            _refuse(
                recipe,
                f"edge {cut.dst} <-| {cut.src}",
                "every path between the two cut",
                "another path that carries gradient",
                (),
            )


def _check_schedule(recipe: Recipe, layout: Layout) -> None:
    names = {stream.name: stream for stream in recipe.stage.streams}
    settled: set[str] = set()
    for leg in recipe.stage.schedule:
        streams = (leg.stream,) if isinstance(leg, Commit | Decode) else () if isinstance(leg, Read) else leg.streams
        for name in streams:
            if name not in names:
                _refuse(recipe, f"schedule, {type(leg).__name__}", "a stream", repr(name), names)
            if isinstance(leg, Denoise | Predict | Decode) and names[name].objective is None:
                _refuse(recipe, f"schedule, {type(leg).__name__}({name})", "a stream with an objective", "none", ())
        if isinstance(leg, Commit) and (
            leg.stream not in settled or "clean" not in [view.kind for view in names[leg.stream].views]
        ):
            _refuse(
                recipe, f"Commit({leg.stream})", "a settled stream with a clean view", "neither or only one", ()
            )
        if isinstance(leg, Read):
            for group in leg.groups:
                if group not in layout.groups:
                    _refuse(recipe, "schedule, Read", "a group", repr(group), layout.groups)
        settled.update(moved(leg))


def _check_posteriors(recipe: Recipe, layout: Layout) -> None:
    """What reads the future must not be needed to act."""
    reached = layout.needed(recipe.stage.outputs())
    posteriors = {name for name, group in layout.groups.items() if group.view.kind == "posterior"}
    if reached & posteriors:
        _refuse(recipe, "schedule", "no posterior needed to act", str(sorted(reached & posteriors)), ())
