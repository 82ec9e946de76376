"""The joint layer: several towers, one softmax. One module per layer, because that is the unit that sharding needs.

Every group of tokens has its own set of sources (the layout's edges); groups whose keys and values are cached are
read, not run. How a layer attends is chosen in ``attend``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossroads.layout import Layout
from crossroads.streams import Edge
from crossroads.towers.attend import Attend, Keys, Reading, Sdpa, cut
from crossroads.towers.spec import Context, Heads, Places


@dataclass(frozen=True, kw_only=True)
class GroupInput:
    """A group's embedded tokens, their levels (``b 1`` when the whole group has one) and which are real."""

    tokens: Float[Tensor, "b n w"]
    level: Float[Tensor, "b l"]
    valid: Bool[Tensor, "b n"]
    places: Places


@dataclass(frozen=True, kw_only=True)
class GroupState:
    """What a group leaves behind: keys and values per layer, final hidden states, and hidden states at taps."""

    keys: tuple[Float[Tensor, "b n g d"], ...]
    values: tuple[Float[Tensor, "b n g d"], ...]
    hidden: Float[Tensor, "b n w"]
    valid: Bool[Tensor, "b n"]
    taps: Mapping[int, Float[Tensor, "b n w"]] = field(default_factory=dict)


class JointLayer(nn.Module):
    """One layer of every tower that shares a softmax."""

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(blocks)

    def forward(
        self,
        x: dict[str, Tensor],
        conditions: Mapping[str, object],
        spans: Mapping[str, Mapping[str, slice]],
        cached: Mapping[str, Keys],
        valid: Mapping[str, Tensor],
        readings: tuple[Reading, ...],
        attend: Attend,
    ) -> tuple[dict[str, Tensor], dict[str, Keys]]:
        """``x``: tokens by tower; ``spans``: where each active group lies in its tower. Returns new x and new keys."""
        queries: dict[str, Tensor] = {}
        sources: dict[str, Keys] = dict(cached)
        carries = {}
        for tower, tokens in x.items():
            qkv, carries[tower] = self.blocks[tower].before(tokens, conditions[tower])  # pyright: ignore[reportCallIssue]
            sizes = [span.stop - span.start for span in spans[tower].values()]
            parts = zip(*(part.split(sizes, dim=1) for part in (qkv.q, qkv.k, qkv.v)), strict=True)
            for group, (q, k, v) in zip(spans[tower], parts, strict=True):
                queries[group] = q
                new = Keys(k=k, v=v, valid=valid[group])
                sources[group] = _appended(cached[group], new) if group in cached else new
        attended = attend(queries, sources, readings)
        out = {}
        for tower, tokens in x.items():
            joined = torch.cat([attended[group] for group in spans[tower]], dim=1)
            out[tower] = self.blocks[tower].after(tokens, joined, carries[tower], conditions[tower])  # pyright: ignore[reportCallIssue]
        return out, {group: sources[group] for group in queries}


def _appended(old: Keys, new: Keys) -> Keys:
    """A group that grows token by token (incremental decoding): its new keys follow its old ones."""
    return Keys(
        k=torch.cat([old.k, new.k], dim=1),
        v=torch.cat([old.v, new.v], dim=1),
        valid=torch.cat([old.valid, new.valid], dim=1),
    )


class Joint(nn.Module):
    """All layers of the towers that share one softmax."""

    def __init__(
        self,
        *,
        layout: Layout,
        towers: frozenset[str],
        geometry: Heads,
        frames: Mapping[str, nn.Module],
        layers: list[JointLayer],
        modulators: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.layout, self.towers, self.geometry = layout, tuple(sorted(towers)), geometry
        self.frames = nn.ModuleDict(frames)
        self.layers = nn.ModuleList(layers)
        self.modulators = nn.ModuleDict(modulators)
        self.attend: Attend = Sdpa()

    def run(self, inputs: Mapping[str, GroupInput], states: Mapping[str, GroupState]) -> dict[str, GroupState]:
        """Run the groups of these towers that are in ``inputs``; read any other source from ``states``.

        A group present in both grows: its new tokens are appended to its cached keys (incremental decoding).
        """
        active = [name for name in sorted(inputs) if self.layout.groups[name].tower in self.towers]
        if not active:
            return {}
        spans, x = self._place(active, inputs)
        told = {tower: self._conditions(tower, spans[tower], inputs, states) for tower in x}
        x = {tower: self.frames[tower].enter(tokens, told[tower][0]) for tower, tokens in x.items()}  # pyright: ignore[reportCallIssue]
        keys: dict[str, list[Keys]] = {name: [] for name in active}
        wanted = {edge.tap for edge in self.layout.edges if edge.tap is not None}
        taps: dict[str, dict[int, Tensor]] = {name: {} for name in active}
        valid = {name: inputs[name].valid for name in active}
        for index, layer in enumerate(self.layers):
            readings = tuple(self._reading(name, index, inputs, states) for name in active)
            cached = self._cached(readings, index, states)
            conditions = {tower: told[tower][index] for tower in x}
            x, new = layer(x, conditions, spans, cached, valid, readings, self.attend)
            for name in active:
                keys[name].append(new[name])
                if index in wanted:
                    taps[name][index] = x[self.layout.groups[name].tower][:, spans_of(spans, name)]
        x = {tower: self.frames[tower].finish(tokens, told[tower][-1]) for tower, tokens in x.items()}  # pyright: ignore[reportCallIssue]
        found = {}
        for name in active:
            old = states.get(name)
            hidden = x[self.layout.groups[name].tower][:, spans_of(spans, name)]
            found[name] = GroupState(
                keys=tuple(entry.k for entry in keys[name]),
                values=tuple(entry.v for entry in keys[name]),
                hidden=torch.cat([old.hidden, hidden], dim=1) if old else hidden,
                valid=keys[name][0].valid if keys[name] else inputs[name].valid,
                taps={at: torch.cat([old.taps[at], tap], dim=1) if old else tap for at, tap in taps[name].items()},
            )
        return found

    def _place(self, active: list[str], inputs: Mapping[str, GroupInput]):
        """The tokens of each tower in one run, and where each group lies in it."""
        spans: dict[str, dict[str, slice]] = {}
        tokens: dict[str, list[Tensor]] = {}
        for name in active:
            tower = self.layout.groups[name].tower
            start = sum(part.shape[1] for part in tokens.get(tower, []))
            tokens.setdefault(tower, []).append(inputs[name].tokens)
            spans.setdefault(tower, {})[name] = slice(start, start + inputs[name].tokens.shape[1])
        return spans, {tower: torch.cat(parts, dim=1) for tower, parts in tokens.items()}

    def _conditions(
        self,
        tower: str,
        spans: Mapping[str, slice],
        inputs: Mapping[str, GroupInput],
        states: Mapping[str, GroupState],
    ) -> list[object]:
        """What each layer is told; layers that read the same across share one condition, computed once."""
        parts = [inputs[name] for name in spans]
        counts: list[int] = []
        for part in parts:
            num = part.tokens.shape[1]
            counts.extend([num] if part.level.shape[1] == 1 else [1] * num)
        places = Places(
            index=torch.cat([part.places.index for part in parts], dim=1),
            grid=torch.cat([part.places.grid for part in parts], dim=0),
        )
        level = torch.cat([part.level for part in parts], dim=1)
        found: dict[tuple[Edge, ...], object] = {}
        told = []
        for layer in range(max(1, self.geometry.depth)):  # a tower without layers is still told once
            across = self.layout.across(tower, layer)
            if across not in found:
                contexts, modulation = self._contexts(across, states), self._modulation(tower, across, states)
                found[across] = self.frames[tower].condition(level, tuple(counts), places, contexts, modulation)  # pyright: ignore[reportCallIssue]
            told.append(found[across])
        return told

    def _contexts(self, across: tuple[Edge, ...], states: Mapping[str, GroupState]) -> tuple[Context, ...]:
        """Everything that the groups of a tower read across, in sorted order: what is of one width is one context."""
        parts: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for edge in across:
            if edge.via == "cross":
                hidden = cut(_tapped(states[edge.src], edge), edge)
                parts.setdefault(hidden.shape[-1], []).append((hidden, states[edge.src].valid))
        return tuple(
            Context(hidden=torch.cat([h for h, _ in found], dim=1), valid=torch.cat([v for _, v in found], dim=1))
            for _, found in sorted(parts.items())
        )

    def _modulation(self, tower: str, across: tuple[Edge, ...], states: Mapping[str, GroupState]) -> Tensor | None:
        """The masked mean of each modulating group, mapped to the tower's width and summed: ``b 1 w``."""
        total = None
        for edge in across:
            if edge.via != "modulate":
                continue
            hidden, valid = cut(_tapped(states[edge.src], edge), edge), states[edge.src].valid.unsqueeze(-1)
            mean = (hidden * valid).sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True).clamp(min=1)
            told = self.modulators[f"{tower}__{edge.src.replace('.', '_')}"](mean)
            total = told if total is None else total + told
        return total

    def _reading(
        self, dst: str, layer: int, inputs: Mapping[str, GroupInput], states: Mapping[str, GroupState]
    ) -> Reading:
        edges = tuple(
            edge
            for edge in self.layout.sources(dst)
            if (edge.src in inputs or edge.src in states) and (edge.layers is None or layer in edge.layers)
        )
        masks = {}
        for edge in edges:
            old = states[edge.src].valid.shape[1] if edge.src in states else 0
            num_keys = old + (inputs[edge.src].tokens.shape[1] if edge.src in inputs else 0)
            offset = states[dst].valid.shape[1] if dst in states else 0
            masks[edge.src] = self.layout.mask(edge, inputs[dst].tokens.shape[1], num_keys, offset)
        return Reading(dst=dst, edges=edges, masks=masks)

    def _cached(self, readings: tuple[Reading, ...], layer: int, states: Mapping[str, GroupState]) -> dict[str, Keys]:
        names = {edge.src for reading in readings for edge in reading.edges} & set(states)
        return {
            name: Keys(k=states[name].keys[layer], v=states[name].values[layer], valid=states[name].valid)
            for name in names
        }


def spans_of(spans: Mapping[str, Mapping[str, slice]], group: str) -> slice:
    """Where a group lies in its tower's run of tokens."""
    return next(found[group] for found in spans.values() if group in found)


def _tapped(state: GroupState, edge: Edge) -> Tensor:
    return state.hidden if edge.tap is None else state.taps[edge.tap]
