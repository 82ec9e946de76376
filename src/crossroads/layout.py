"""The layout: from edges to who sees whom, what stays put while something moves, and what may be dropped.

The dense boolean mask is the reference; the per-group plan that the joint layer runs and the FlexAttention predicate
are compiled from the same rule (:func:`sees`), and tests hold them equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from crossroads.errors import InputError, nearest
from crossroads.streams import Clock, Edge, Group, Stream, groups_of


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Where tokens stand in time, elementwise: their number, their block, and their place in blocks and parts of one
    (the second of two frames of block 3: 3.5)."""

    index: Tensor
    block: Tensor
    place: Tensor


def sees(edge: Edge, query: Marks, key: Marks) -> Tensor:
    """The rule of one edge, elementwise over query and key tokens (broadcasting).

    ``same``/``past``/``upto`` compare blocks, ``causal`` compares token indices, ``window`` bounds the distance from
    the place of the key to the reader's block.
    """
    relations = {
        "same": lambda: query.block == key.block,
        "past": lambda: key.block < query.block,
        "upto": lambda: key.block <= query.block,
        "causal": lambda: key.index <= query.index,
        "all": lambda: torch.ones_like(query.block == key.block),
    }
    seen = relations[edge.when]()
    if edge.window is not None:
        seen = seen & (query.block - key.place <= edge.window + 1e-6)  # thirds of a block are not exact
    return seen


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The groups of one stage and the edges among them, with everything that follows from their structure."""

    groups: Mapping[str, Group]
    edges: tuple[Edge, ...]
    clock: Clock

    @staticmethod
    def compile(streams: tuple[Stream, ...], edges: tuple[Edge, ...], clock: Clock) -> Layout:
        """Resolve names and refuse edges that mean nothing."""
        groups = groups_of(streams)
        seen: set[tuple[str, str, str]] = set()
        for edge in edges:
            for name in (edge.dst, edge.src):
                if name not in groups:
                    raise InputError(
                        where=f"edge {edge.dst} <- {edge.src}",
                        expected="the name of a group of this stage",
                        got=repr(name),
                        do=nearest(name, groups),
                    )
            key = (edge.dst, edge.src, edge.via)
            if key in seen:
                raise InputError(
                    where=f"edge {edge.dst} <- {edge.src}",
                    expected=f"one {edge.via} edge per pair",
                    got="two",
                    do="Merge them into one.",
                )
            seen.add(key)
        ordered = tuple(sorted(edges, key=lambda edge: (edge.dst, edge.src, edge.via)))
        return Layout(groups=groups, edges=ordered, clock=clock)

    def sources(self, dst: str, via: str = "joint") -> tuple[Edge, ...]:
        """The edges by which a group reads, sorted by source."""
        return tuple(edge for edge in self.edges if edge.dst == dst and edge.via == via)

    def across(self, tower: str, layer: int) -> tuple[Edge, ...]:
        """The cross and modulate edges that one layer of a tower reads, one per source, sorted by source.

        ``Recipe.validate`` sees to it that all groups of a tower have the same ones.
        """
        found = {
            (edge.src, edge.via): edge
            for edge in self.edges
            if edge.via in ("cross", "modulate")
            and self.groups[edge.dst].tower == tower
            and (edge.layers is None or layer in edge.layers)
        }
        return tuple(replace(found[key], dst="") for key in sorted(found))

    def showing(self, edge: Edge) -> bool:
        """Whether a value edge shows pictures: those that its source, which is drawn, was settled to."""
        return edge.via == "value" and self.groups[edge.src].view.kind == "noised"

    def needed(self, outputs: Iterable[str], *, shown: bool = False) -> frozenset[str]:
        """Every group that the outputs read, directly or not, and the outputs themselves; the rest may be dropped.

        ``shown``: with those whose pictures one of them is shown, which are settled before and do not run beside it.
        """
        wanted, frontier = set(outputs), list(outputs)
        while frontier:
            dst = frontier.pop()
            for edge in self.edges:
                if edge.dst == dst and edge.src not in wanted and (shown or not self.showing(edge)):
                    wanted.add(edge.src)
                    frontier.append(edge.src)
        return frozenset(wanted)

    def beside(self, name: str) -> frozenset[str]:
        """Every group that a group reads, directly or not, but for what is handed on to it or to them."""
        edges = tuple(edge for edge in self.edges if edge.via != "value")
        return replace(self, edges=edges).needed([name])

    def shown_to(self, names: Iterable[str]) -> frozenset[str]:
        """The groups whose pictures some others are shown."""
        wanted = set(names)
        return frozenset(edge.src for edge in self.edges if edge.dst in wanted and self.showing(edge))

    def outdated(self, moving: Iterable[str]) -> frozenset[str]:
        """The groups that are shown the pictures of some that move again, and those that are shown theirs."""
        found, frontier = set[str](), list(moving)
        while frontier:
            src = frontier.pop()
            new = {edge.dst for edge in self.edges if edge.src == src and self.showing(edge)} - found
            found |= new
            frontier += new
        return frozenset(found)

    def silent(self, names: Iterable[str]) -> frozenset[str]:
        """Of some groups, those that acting runs for their keys and values alone: they are observed or settled, and
        what their tower makes of them at its end no other tower reads."""
        heard = {edge.src for edge in self.edges if edge.via != "joint"}
        return frozenset(name for name in names if self.groups[name].view.kind in ("now", "clean")) - heard

    def stable(self, moving: Iterable[str]) -> frozenset[str]:
        """Every group whose values cannot change while the moving groups change: what may be cached during a leg."""
        moved = set(moving)
        grew = True
        while grew:
            readers = {edge.dst for edge in self.edges if edge.src in moved and not self.showing(edge)}
            readers |= self._told_by(moved)
            grew = not readers <= moved
            moved |= readers
        return frozenset(self.groups) - moved

    def per_call(self, name: str) -> int:
        """How many tokens of a group one call is about where acting goes on block by block; 0: all of them, as of the
        clean past and of what is observed once for all blocks."""
        group = self.groups[name]
        once = group.view.kind == "now" and group.stream.principal != "now"
        return 0 if once or group.view.kind == "clean" else self.clock.per_block(group.stream.name)

    @property
    def windowed(self) -> bool:
        """Whether nothing reads the clean past further back than a window, so that the oldest of it may be dropped."""
        clean = [edge for edge in self.edges if self.groups[edge.src].view.kind == "clean"]
        return all(edge.window is not None for edge in clean)

    def teller(self, name: str) -> str | None:
        """The group whose noise level an observed group is told, if it is told one."""
        stream = self.groups[name].stream.told
        found = {group.stream.name: other for other, group in self.groups.items() if group.view.kind == "noised"}
        return found[stream] if stream is not None and self.groups[name].view.kind == "now" else None

    def heard(self, name: str) -> tuple[str, ...]:
        """The groups whose noise levels a group hears beside its own, in order."""
        found = {group.stream.name: other for other, group in self.groups.items() if group.view.kind == "noised"}
        return tuple(found[stream] for stream in self.groups[name].stream.hears)

    def _told_by(self, groups: set[str]) -> set[str]:
        """The groups that are told the level of one of some groups, whose values change with it."""
        return {name for name in self.groups if self.teller(name) in groups or groups & set(self.heard(name))}

    def mask(
        self, edge: Edge, num_queries: int, num_keys: int, offset: int = 0, start: int = 0
    ) -> Bool[Tensor, "q k"] | None:
        """Which key tokens each query token of an edge sees; None when it sees all (no mask to pay for).

        ``offset`` and ``start``: the numbers of the first query and the first key in their groups. During incremental
        decoding the queries are the last tokens of a group; what is long past may have been forgotten.
        """
        if edge.when == "all" and edge.window is None:
            return None
        queries, keys = self._marks(edge.dst, num_queries, offset), self._marks(edge.src, num_keys, start)
        down = Marks(index=queries.index[:, None], block=queries.block[:, None], place=queries.place[:, None])
        return sees(edge, down, keys)

    def _marks(self, name: str, num: int, start: int) -> Marks:
        group = self.groups[name]
        per_block = self.clock.per_block(group.stream.name)
        index = torch.arange(start, start + num)
        if group.view.kind == "now" and group.stream.principal != "now":  # the clip goes on from here
            index = index - group.stream.codec.num_tokens("now")
        if not per_block:
            return Marks(index=index, block=torch.zeros_like(index), place=torch.zeros(num, dtype=torch.float64))
        return Marks(index=index, block=index // per_block, place=index.double() / per_block)

    def dense(self, num_tokens: Mapping[str, int]) -> Bool[Tensor, "q k"]:
        """The whole boolean attention mask (true = may attend) over the given groups, in their sorted order."""
        names = sorted(num_tokens)
        rows = []
        for dst in names:
            by_source = {edge.src: edge for edge in self.sources(dst)}
            cells = []
            for src in names:
                shape = (num_tokens[dst], num_tokens[src])
                if src not in by_source:
                    cells.append(torch.zeros(shape, dtype=torch.bool))
                    continue
                mask = self.mask(by_source[src], *shape)
                cells.append(torch.ones(shape, dtype=torch.bool) if mask is None else mask)
            rows.append(torch.cat(cells, dim=1))
        return torch.cat(rows, dim=0)

    def joints(self) -> tuple[frozenset[str], ...]:
        """Sets of towers that share a softmax, in an order in which cross and modulate edges can be served."""
        towers = sorted({group.tower for group in self.groups.values()})
        parent = {tower: tower for tower in towers}

        def root(tower: str) -> str:
            while parent[tower] != tower:
                tower = parent[tower]
            return tower

        for edge in self.edges:
            if edge.via == "joint":
                parent[root(self.groups[edge.dst].tower)] = root(self.groups[edge.src].tower)
        members: dict[str, set[str]] = {}
        for tower in towers:
            members.setdefault(root(tower), set()).add(tower)
        return self._served_in_order({name: frozenset(found) for name, found in members.items()}, root)

    def _served_in_order(self, joints, root) -> tuple[frozenset[str], ...]:
        before = {name: set() for name in joints}
        for edge in self.edges:
            dst, src = root(self.groups[edge.dst].tower), root(self.groups[edge.src].tower)
            if edge.via in ("cross", "modulate", "value"):
                if dst == src:
                    raise InputError(
                        where=f"edge {edge.dst} <- {edge.src}",
                        expected=f"a {edge.via} edge from a tower that runs earlier",
                        got="two towers that share one softmax",
                        do="Use a joint edge, or separate the towers.",
                    )
                before[dst].add(src)
        ordered: list[str] = []
        while len(ordered) < len(joints):
            ready = [name for name in sorted(joints) if name not in ordered and before[name] <= set(ordered)]
            if not ready:
                raise InputError(
                    where="layout",
                    expected="cross and modulate edges without a circle between towers",
                    got=f"a circle among {sorted(set(joints) - set(ordered))}",
                    do="Remove one edge of the circle.",
                )
            ordered.append(ready[0])
        return tuple(joints[name] for name in ordered)

    def picture(self, moving: Iterable[str] = (), outputs: Iterable[str] = ()) -> str:
        """Who reads whom as a table: ``#`` joint, ``x`` cross, ``m`` modulate, ``v`` value, ``|`` gradient cut."""
        marks = {"joint": "#", "cross": "x", "modulate": "m", "value": "v"}
        names = list(self.groups)
        width = max(len(name) for name in names) + 2
        towers = {name: f"[{self.groups[name].tower}]" for name in names}
        tower_width = max(len(tower) for tower in towers.values()) + 2
        lines = [" " * (width + tower_width) + "".join(name.ljust(width) for name in names)]
        for dst in names:
            cells = {edge.src: marks[edge.via] + ("" if edge.grad else "|") for edge in self.edges if edge.dst == dst}
            row = "".join(cells.get(src, ".").ljust(width) for src in names)
            lines.append(dst.ljust(width) + towers[dst].ljust(tower_width) + row)
        lines.append("# joint   x cross   m modulate   v value   | gradient cut   (rows read columns)")
        moving, outputs = tuple(moving), tuple(outputs)
        if moving:
            cached = sorted(self.stable(moving) & self.needed(moving))
            lines.append(f"cached while {', '.join(moving)} moves: {', '.join(cached) or 'nothing'}")
        if outputs:
            lines.append(f"needed to act: {', '.join(sorted(self.needed(outputs)))}")
        return "\n".join(lines)
