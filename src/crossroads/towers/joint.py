"""The joint layer: several towers, one softmax. One module per layer, because that is the unit that sharding needs.

Every group of tokens has its own set of sources (the layout's edges); groups whose keys and values are cached are
read, not run. How a layer attends is chosen in ``attend``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossroads.layout import Layout
from crossroads.objectives import Align
from crossroads.streams import Edge
from crossroads.towers.attend import Attend, Call, Keys, LayerReads, Pass, Sdpa, cut
from crossroads.towers.forward import Told, taps_by_group
from crossroads.towers.group import GroupInput, GroupState
from crossroads.towers.pass_plan import PassPlanner
from crossroads.towers.spec import Context, Heads, KeyReading, Places, Stands, Unlevelled


class JointLayer(nn.Module):
    """One layer of every tower that shares a softmax."""

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(blocks)
        self.mapping = frozenset(tower for tower, block in blocks.items() if getattr(block, "maps", False))
        """The towers that read keys of this layer through maps of their own, in calls of their own."""

    def forward(
        self, x: dict[str, Tensor], conditions: Mapping[str, object], reads: LayerReads, attend: Attend
    ) -> tuple[dict[str, Tensor], dict[str, Keys]]:
        """``x``: tokens by tower. Returns the new x, and the keys and values of each tower's run."""
        calls, cached = reads.calls, reads.cached
        runs = {tower: self.blocks[tower].before(tokens, conditions[tower]) for tower, tokens in x.items()}  # pyright: ignore[reportCallIssue]
        q = {tower: qkv.q for tower, (qkv, _) in runs.items()}
        k = {tower: qkv.k for tower, (qkv, _) in runs.items()}
        v = {tower: qkv.v for tower, (qkv, _) in runs.items()}
        plain = tuple(call for call in calls if call.queries[0].source not in self.mapping) if self.mapping else calls
        attended = attend(q, k, v, cached, plain)
        for tower in self.mapping & set(x):
            own = tuple(call for call in calls if call.queries[0].source == tower)
            attended |= attend(q, *self._mapped(tower, own, k, v, reads), own)
        out = {
            tower: self.blocks[tower].after(tokens, attended[tower], runs[tower][1], conditions[tower])  # pyright: ignore[reportCallIssue]
            for tower, tokens in x.items()
            if tower in attended  # of one that nobody asks for an answer, keys and values are enough
        }
        return out, {tower: Keys(k=k[tower], v=v[tower]) for tower in x}

    def _mapped(
        self,
        tower: str,
        calls: tuple[Call, ...],
        k: Mapping[str, Tensor],
        v: Mapping[str, Tensor],
        reads: LayerReads,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Keys]]:
        """Keys and values of all that a tower reads here, through its maps."""
        mapped = self.blocks[tower].mapped
        read = {(rows.source, rows.cached) for call in calls for rows in call.keys}
        new = {source: mapped(k[source], v[source]) for source, kept in read if not kept}  # pyright: ignore[reportCallIssue]
        old = reads.mapped.setdefault(tower, {})
        for source in {source for source, kept in read if kept} - set(old):
            pair = mapped(reads.cached[source].k, reads.cached[source].v)  # pyright: ignore[reportCallIssue]
            old[source] = Keys(k=pair[0], v=pair[1])
        return {source: pair[0] for source, pair in new.items()}, {source: pair[1] for source, pair in new.items()}, old


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
        tapped: frozenset[int] = frozenset(),
        reach: Mapping[str, tuple[int | None, ...]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.layout, self.towers, self.geometry = layout, tuple(sorted(towers)), geometry
        self.tapped = tapped
        """Layers after which states are read that no edge taps: those that codecs hand on."""
        self.frames = nn.ModuleDict(frames)
        self.layers = nn.ModuleList(layers)
        self.modulators = nn.ModuleDict(modulators)
        self.attend: Attend = Sdpa()
        mapping = tuple(layer.mapping for layer in layers)
        self.planner = PassPlanner(layout=layout, mapping=mapping, cap=geometry.cap, reach=dict(reach))

    def run(
        self,
        inputs: Mapping[str, GroupInput],
        states: Mapping[str, GroupState],
        kept: dict[nn.Module, Pass] | None = None,
        silent: frozenset[str] = frozenset(),
    ) -> dict[str, GroupState]:
        """Run the groups of these towers that are in ``inputs``; read any other source from ``states``.

        A group present in both grows: its new tokens are appended to its cached keys (incremental decoding). ``kept``:
        where the steps of a leg, between which nothing changes but tokens and levels, keep the rest for each other.
        ``silent``: groups whose final hidden states nobody will read; where a tower runs no others, its last layer
        gives keys and values alone.
        """
        active = [name for name in sorted(inputs) if self.layout.groups[name].tower in self.towers]
        if not active:
            return {}
        ready = (kept or {}).get(self) or self.planner.prepare(active, inputs, states, silent, self.attend)
        if kept is not None:
            kept[self] = ready
        spans, placed = ready.spans, ready.placed
        x = {tower: _joined([inputs[name].tokens for name in found]) for tower, found in spans.items()}
        told = {tower: self._told(tower, ready, inputs, states) for tower in x}
        x = {tower: self.frames[tower].enter(tokens, told[tower][0]) for tower, tokens in x.items()}  # pyright: ignore[reportCallIssue]
        called = {tower: found[0] for tower, found in told.items() if isinstance(found[0], Told)}
        keys: dict[str, list[Keys]] = {name: [] for name in active}
        wanted = {edge.tap for edge in self.layout.edges if edge.tap is not None} | self._compared() | self.tapped
        taps: dict[str, dict[int, Tensor]] = {name: {} for name in active}
        for tower, found in called.items():
            taps |= taps_by_group(found, {name: _tapped_at(self.layout, name) for name in spans[tower]})
        for index, (layer, reads) in enumerate(zip(self.layers, ready.layers, strict=True)):
            x, new = layer(x, {tower: told[tower][index] for tower in x}, reads, self.attend)
            for tower, found in new.items():
                for name, entry in _by_group(found, spans[tower]).items():
                    keys[name].append(_grown(states.get(name), index, entry))
            if index in wanted:
                for name in active:
                    taps[name][index] = self._of(x, name, spans, inputs)
        x = {tower: self.frames[tower].finish(tokens, told[tower][-1]) for tower, tokens in x.items()}  # pyright: ignore[reportCallIssue]
        found = {}
        for name in active:
            old = states.get(name)
            hidden = self._of(x, name, spans, inputs)
            found[name] = GroupState(
                keys=tuple(entry.k for entry in keys[name]),
                values=tuple(entry.v for entry in keys[name]),
                hidden=torch.cat([old.hidden, hidden], dim=1) if old else hidden,
                valid=placed.valid[name],
                taps={at: torch.cat([old.taps[at], tap], dim=1) if old else tap for at, tap in taps[name].items()},
                start=placed.start[name],
                where=_stood(told[self.layout.groups[name].tower][-1], spans_of(spans, name), old),
                level=inputs[name].level[:, :1],
                index=ready.stands.get(name),
            )
        return found

    def _compared(self) -> set[int]:
        """The layers after which states of two views are compared."""
        objectives = [group.stream.objective for group in self.layout.groups.values()]
        return {layer for one in objectives if isinstance(one, Align) for layer in one.layers}

    def _of(
        self,
        x: Mapping[str, Tensor],
        name: str,
        spans: Mapping[str, Mapping[str, slice]],
        inputs: Mapping[str, GroupInput],
    ) -> Tensor:
        """A group's part of what its tower gave; none of it where the tower gave keys alone."""
        tower = self.layout.groups[name].tower
        return x[tower][:, spans[tower][name]] if tower in x else inputs[name].tokens[:, :0]

    def _told(
        self, tower: str, ready: Pass, inputs: Mapping[str, GroupInput], states: Mapping[str, GroupState]
    ) -> list[object]:
        """What each layer is told; made once for a leg where the level has no part in it."""
        if tower in ready.conditions:
            return ready.conditions[tower]
        told = self._conditions(tower, ready.spans[tower], inputs, states)
        if all(isinstance(condition, Unlevelled) for condition in told):
            ready.conditions[tower] = told
        return told

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
            num = part.level.shape[1]
            counts.extend([part.tokens.shape[1] // num] * num)
        places = Places(
            index=torch.cat([part.places.index for part in parts], dim=1),
            grid=torch.cat([part.places.grid for part in parts], dim=0),
        )
        level = torch.cat([part.level for part in parts], dim=1)
        heard = () if parts[0].heard is None else (parts[0].heard,)
        deep = {"deep": _deep(parts)} if any(part.deep is not None for part in parts) else {}
        found: dict[tuple[Edge, ...], object] = {}
        told = []
        for layer in range(max(1, self.geometry.depth)):  # a tower without layers is still told once
            across = self.layout.across(tower, layer)
            if across not in found:
                contexts, modulation = self._contexts(across, states), self._modulation(tower, across, states)
                found[across] = self.frames[tower].condition(
                    level, tuple(counts), places, contexts, modulation, *heard, **deep
                )  # pyright: ignore[reportCallIssue]
            frame = self.frames[tower]
            reads = isinstance(frame, KeyReading)
            told.append(frame.reading(found[across], *_keys_of(across, states, layer)) if reads else found[across])
        return told

    def _contexts(self, across: tuple[Edge, ...], states: Mapping[str, GroupState]) -> tuple[Context, ...]:
        """Everything that the groups of a tower read across, in sorted order: what is of one width is one context."""
        parts: dict[int, list[Context]] = {}
        for edge in across:
            if edge.via == "cross":
                hidden, state = cut(_tapped(states[edge.src], edge), edge), states[edge.src]
                where = None if state.where is None else cut(state.where, edge)
                parts.setdefault(hidden.shape[-1], []).append(
                    Context(hidden=hidden, valid=_valid(state, hidden), where=where)
                )
        return tuple(_side_by_side(found) for _, found in sorted(parts.items()))

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


def _deep(parts: list[GroupInput]) -> Float[Tensor, "deep b n w"]:
    """What the first layers of a tower add to its run of tokens; nothing to those of groups that bring nothing."""
    num = max(len(part.deep) for part in parts if part.deep is not None)
    blank = [part.tokens.new_zeros(num, *part.tokens.shape) for part in parts]
    return torch.cat([none if p.deep is None else p.deep for p, none in zip(parts, blank, strict=True)], dim=2)


def _side_by_side(parts: list[Context]) -> Context:
    """Several contexts as one; where any of them says where its tokens stand, the others' stand nowhere (zeros)."""
    where = None
    if any(part.where is not None for part in parts):
        where = torch.cat([torch.zeros_like(p.hidden) if p.where is None else p.where for p in parts], dim=1)
    hidden = torch.cat([part.hidden for part in parts], dim=1)
    return Context(hidden=hidden, valid=torch.cat([part.valid for part in parts], dim=1), where=where)


def _stood(condition: object, span: slice, old: GroupState | None) -> Tensor | None:
    """The vectors of a group's places, behind those of the tokens it had."""
    if not isinstance(condition, Stands):
        return None
    new = condition.where[:, span]
    return new if old is None or old.where is None else torch.cat([old.where, new], dim=1)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _by_group(run: Keys, spans: Mapping[str, slice]) -> dict[str, Keys]:
    """The keys of a tower's run, group by group (views)."""
    if len(spans) == 1:
        return dict.fromkeys(spans, run)
    sizes = [span.stop - span.start for span in spans.values()]
    parts = zip(spans, run.k.split(sizes, dim=1), run.v.split(sizes, dim=1), strict=True)
    return {name: Keys(k=k, v=v) for name, k, v in parts}


def _grown(old: GroupState | None, layer: int, new: Keys) -> Keys:
    """A group that grows token by token (incremental decoding): its new keys follow its old ones."""
    if old is None:
        return new
    return Keys(k=torch.cat([old.keys[layer], new.k], dim=1), v=torch.cat([old.values[layer], new.v], dim=1))


def spans_of(spans: Mapping[str, Mapping[str, slice]], group: str) -> slice:
    """Where a group lies in its tower's run of tokens."""
    return next(found[group] for found in spans.values() if group in found)


def _tapped_at(layout: Layout, name: str) -> frozenset[int]:
    """Where a group is tapped by anybody."""
    return frozenset(edge.tap for edge in layout.edges if edge.src == name and edge.tap is not None)


def _keys_of(across: tuple[Edge, ...], states: Mapping[str, GroupState], layer: int) -> tuple[Tensor, Tensor]:
    """Keys and values that all that is read across had in one layer, heads side by side, in sorted order."""
    read = [edge for edge in across if edge.via == "cross"]
    keys = torch.cat([cut(states[edge.src].keys[layer].flatten(2), edge) for edge in read], dim=1)
    return keys, torch.cat([cut(states[edge.src].values[layer].flatten(2), edge) for edge in read], dim=1)


def _valid(state: GroupState, hidden: Float[Tensor, "b m w"]) -> Bool[Tensor, "b m"]:
    """Of what is read: all of it where a tap has tokens of its own."""
    own = hidden.shape[1] == state.valid.shape[1]
    return state.valid if own else torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)


def _tapped(state: GroupState, edge: Edge) -> Tensor:
    return state.hidden if edge.tap is None else state.taps[edge.tap]
