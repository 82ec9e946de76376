"""What one pass through the layers that share a softmax reads: planned before it runs, as tokens have no part in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.layout import Layout
from crossroads.streams import Edge
from crossroads.towers.attend import Attend, Call, Keys, LayerReads, Pass, Placed, Reading
from crossroads.towers.group import GroupInput, GroupState

Reach = tuple[tuple[str, int], ...]
"""Of one layer: over how many tokens each tower looks back that does not look back all the way."""


@dataclass(frozen=True, kw_only=True)
class PassPlanner:
    """Plans passes. ``mapping``: of each layer, the towers that read its keys through maps of their own; ``cap``: see
    :class:`Heads`; ``reach``: of towers that do not look back all the way in each layer, over how many tokens they do
    (None: all)."""

    layout: Layout
    mapping: tuple[frozenset[str], ...]
    cap: float | None
    reach: Mapping[str, tuple[int | None, ...]]

    def prepare(
        self,
        active: list[str],
        inputs: Mapping[str, GroupInput],
        states: Mapping[str, GroupState],
        silent: frozenset[str],
        attend: Attend,
    ) -> Pass:
        """Where each group lies in its tower's run, and what every layer reads."""
        spans: dict[str, dict[str, slice]] = {}
        for name in active:
            run = spans.setdefault(self.layout.groups[name].tower, {})
            start = max((span.stop for span in run.values()), default=0)
            run[name] = slice(start, start + inputs[name].tokens.shape[1])
        placed = _placed(spans, inputs, states)
        stands = self._stands(inputs, states, placed) if self.reach else {}
        plans: dict[tuple[frozenset[str], tuple[tuple[Edge, ...], ...], Reach], tuple[Call, ...]] = {}
        layers: list[LayerReads] = []
        answering = [name for name in active if not silent.issuperset(spans[self.layout.groups[name].tower])]
        for index, mapping in enumerate(self.mapping):
            reading = active if index + 1 < len(self.mapping) else answering
            edges = tuple(self._read(name, index, placed) for name in reading)
            reach = tuple((tower, far) for tower, found in sorted(self.reach.items()) if (far := found[index]))
            if (mapping, edges, reach) not in plans:
                read = dict(zip(reading, edges, strict=True))
                plans[mapping, edges, reach] = self._plan(read, mapping, placed, dict(reach), stands, attend)
            cached = {
                name: Keys(k=states[name].keys[index], v=states[name].values[index])
                for name in {edge.src for found in edges for edge in found} & set(states)
            }
            layers.append(LayerReads(calls=plans[mapping, edges, reach], cached=cached))
        return Pass(spans=spans, placed=placed, layers=tuple(layers), stands=stands)

    def _stands(
        self, inputs: Mapping[str, GroupInput], states: Mapping[str, GroupState], placed: Placed
    ) -> dict[str, Float[Tensor, "b k"]]:
        """Where the tokens of each group stand in the running sequence, cached ones first."""
        found: dict[str, Tensor] = {name: state.index for name, state in states.items() if state.index is not None}
        for name in placed.spans:
            new = inputs[name].places.index
            found[name] = torch.cat([found[name], new], dim=1) if name in states else new
        return found

    def _read(self, dst: str, layer: int, placed: Placed) -> tuple[Edge, ...]:
        """The edges by which a group reads in one layer, of the sources that are there."""
        return tuple(
            edge
            for edge in self.layout.sources(dst)
            if edge.src in placed.valid and (edge.layers is None or layer in edge.layers)
        )

    def _plan(
        self,
        edges: Mapping[str, tuple[Edge, ...]],
        mapping: frozenset[str],
        placed: Placed,
        reach: Mapping[str, int],
        stands: Mapping[str, Float[Tensor, "b k"]],
        attend: Attend,
    ) -> tuple[Call, ...]:
        """The calls of one layer; towers that map keys share none with others."""
        parts: dict[str | None, list[Reading]] = {}
        for name, read in edges.items():
            tower = self.layout.groups[name].tower
            reading = self._reading(name, read, placed)
            if tower in reach:
                reading = _within(reading, reach[tower], placed, stands)
            parts.setdefault(tower if tower in mapping else None, []).append(reading)
        calls = (call for part in parts.values() for call in attend.plan(tuple(part), placed))
        return tuple(replace(call, cap=self.cap) for call in calls)

    def _reading(self, dst: str, edges: tuple[Edge, ...], placed: Placed) -> Reading:
        offset, num = placed.start[dst] + placed.num_cached.get(dst, 0), placed.num_queries(dst)
        masks = {
            e.src: self.layout.mask(e, num, placed.valid[e.src].shape[1], offset, placed.start[e.src]) for e in edges
        }
        return Reading(dst=dst, edges=edges, masks=masks)


def _within(reading: Reading, reach: int, placed: Placed, stands: Mapping[str, Float[Tensor, "b k"]]) -> Reading:
    """The same of what stands at most so many tokens back, the reader's own place among them."""
    at = stands[reading.dst][:, -placed.num_queries(reading.dst) :, None]
    masks = dict(reading.masks)
    for edge in reading.edges:
        near = at - stands[edge.src][:, None, :] < reach
        if not bool(near.all()):
            mask = masks[edge.src]
            masks[edge.src] = near if mask is None else near & mask.to(near.device)
    return replace(reading, masks=masks)


def _placed(
    spans: Mapping[str, Mapping[str, slice]], inputs: Mapping[str, GroupInput], states: Mapping[str, GroupState]
) -> Placed:
    """Where the groups of a pass lie; a group in both ``inputs`` and ``states`` grows."""
    run = {name: (tower, span) for tower, found in spans.items() for name, span in found.items()}
    valid = {name: state.valid for name, state in states.items()}
    for name in run:
        new = inputs[name].valid
        valid[name] = torch.cat([valid[name], new], dim=1) if name in valid else new
    start = {name: part.start for part_of in (inputs, states) for name, part in part_of.items()}
    return Placed(spans=run, num_cached={n: s.valid.shape[1] for n, s in states.items()}, valid=valid, start=start)
