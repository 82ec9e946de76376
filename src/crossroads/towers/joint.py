"""The joint layer: several towers, one softmax. One module per layer, because that is the unit that sharding needs.

Every group of tokens has its own set of sources (the layout's edges); groups whose keys and values are cached are
read, not run. Three ways to attend give the same numbers: ``DENSE`` (one masked softmax over everything, the
reference), ``SDPA`` (one fused call per reading group, over only what it reads), ``FLEX`` (FlexAttention where the
backend has it). A cut edge reads detached keys and values: values unchanged, gradient exactly zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.layout import Layout
from crossroads.streams import Edge
from crossroads.towers.spec import QKV, Context, Heads, Places


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


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One group's sources in one layer: the edges, and the mask of each (None: sees all)."""

    dst: str
    edges: tuple[Edge, ...]
    masks: Mapping[str, Bool[Tensor, "q k"] | None]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Keys, values and validity of one source group in one layer."""

    k: Float[Tensor, "b n g d"]
    v: Float[Tensor, "b n g d"]
    valid: Bool[Tensor, "b n"]


class Attend:
    """A way to run one layer's attention: queries by group, sources by group, and who reads whom."""

    def __call__(
        self, queries: Mapping[str, Tensor], sources: Mapping[str, Keys], readings: tuple[Reading, ...]
    ) -> dict[str, Float[Tensor, "b n e"]]:
        attended = {}
        for reading in readings:
            q = queries[reading.dst]
            reads = bool(reading.edges)  # a group may read nothing in some layers
            attended[reading.dst] = self.one(q, sources, reading) if reads else torch.zeros_like(q).flatten(2)
        return attended

    def one(self, q: Tensor, sources: Mapping[str, Keys], reading: Reading) -> Tensor:
        raise NotImplementedError  # abstract


def _mask(
    reading: Reading, sources: Mapping[str, Keys], num_queries: int, over: tuple[Edge, ...] | None = None
) -> Bool[Tensor, "b q k"] | None:
    """Validity and edge masks of everything one group reads (laid out as in ``over``); None when nothing is hidden."""
    own = {edge.src for edge in reading.edges}
    edges = over or reading.edges
    if all(reading.masks.get(edge.src) is None and edge.src in own for edge in edges) and all(
        bool(sources[edge.src].valid.all()) for edge in edges
    ):
        return None
    parts = []
    for edge in edges:
        valid = repeat(sources[edge.src].valid, "b k -> b q k", q=num_queries)
        mask = reading.masks.get(edge.src)
        if edge.src not in own:
            valid = torch.zeros_like(valid)
        parts.append(valid if mask is None else valid & mask.to(valid.device))
    return torch.cat(parts, dim=-1)


class Sdpa(Attend):
    """One ``scaled_dot_product_attention`` per reading group, over only what it reads.

    On CPU a group rides, behind a mask, in the call of another that reads all it reads and little more: at small
    sizes the number of calls and copies is what a step costs. ``max_waste`` is the largest share of masked scores that
    this may add to a call; at 0 exactly the scores are computed that the layout asks for.
    """

    def __init__(self, *, max_waste: float = 0.1) -> None:
        self.max_waste = max_waste

    def __call__(
        self, queries: Mapping[str, Tensor], sources: Mapping[str, Keys], readings: tuple[Reading, ...]
    ) -> dict[str, Float[Tensor, "b n e"]]:
        if next(iter(queries.values())).device.type != "cpu":
            return super().__call__(queries, sources, readings)
        alone, riders = _riders(queries, sources, readings, self.max_waste)
        attended = super().__call__(queries, sources, alone)
        for host, guests in riders:
            together = (host, *guests)
            q = [queries[reading.dst] for reading in together]
            masks = [
                _mask(reading, sources, part.shape[1], host.edges) for reading, part in zip(together, q, strict=True)
            ]
            mask = None
            if any(found is not None for found in masks):
                num_keys = sum(sources[edge.src].valid.shape[1] for edge in host.edges)
                shapes = [(part.shape[0], part.shape[1], num_keys) for part in q]
                filled = [
                    torch.ones(n, dtype=torch.bool) if m is None else m for m, n in zip(masks, shapes, strict=True)
                ]
                mask = torch.cat(filled, dim=1)
            found = _fused(torch.cat(q, dim=1), sources, host.edges, mask)
            sizes = [part.shape[1] for part in q]
            attended.update(zip((reading.dst for reading in together), found.split(sizes, dim=1), strict=True))
        return attended

    def one(self, q: Tensor, sources: Mapping[str, Keys], reading: Reading) -> Tensor:
        return _fused(q, sources, reading.edges, _mask(reading, sources, q.shape[1]))


def _fused(q: Tensor, sources: Mapping[str, Keys], edges: tuple[Edge, ...], mask: Tensor | None) -> Tensor:
    k = torch.cat([_cut(sources[edge.src].k, edge) for edge in edges], dim=1)
    v = torch.cat([_cut(sources[edge.src].v, edge) for edge in edges], dim=1)
    attended = functional.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=None if mask is None else mask.unsqueeze(1),
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return rearrange(attended, "b h n d -> b n (h d)")


def _riders(
    queries: Mapping[str, Tensor], sources: Mapping[str, Keys], readings: tuple[Reading, ...], max_waste: float
) -> tuple[tuple[Reading, ...], list[tuple[Reading, list[Reading]]]]:
    """Which readings stay alone, and which ride with which host."""

    def num_keys(reading: Reading) -> int:
        return sum(sources[edge.src].valid.shape[1] for edge in reading.edges)

    def read(reading: Reading) -> set[tuple[str, bool]]:
        return {(edge.src, edge.grad) for edge in reading.edges}

    hosts: list[tuple[Reading, list[Reading]]] = []
    for reading in sorted(readings, key=num_keys, reverse=True):
        asked = queries[reading.dst].shape[1]
        for host, guests in hosts:
            paid = queries[host.dst].shape[1] * num_keys(host)
            wasted = asked * (num_keys(host) - num_keys(reading))
            if reading.edges and read(reading) <= read(host) and wasted <= max_waste * paid:
                guests.append(reading)
                break
        else:
            hosts.append((reading, []))
    return tuple(host for host, guests in hosts if not guests), [(host, guests) for host, guests in hosts if guests]


class Dense(Attend):
    """The reference: explicit float32 softmax over every source token in one masked score matrix, cuts included."""

    def one(self, q: Tensor, sources: Mapping[str, Keys], reading: Reading) -> Tensor:
        names = sorted(sources)
        by_source = {edge.src: edge for edge in reading.edges}
        groups = q.shape[2] // next(iter(sources.values())).k.shape[2]
        scores, values = [], []
        for name in names:
            if name not in by_source:
                shape = (q.shape[0], q.shape[2], q.shape[1], sources[name].k.shape[1])
                scores.append(torch.full(shape, float("-inf"), device=q.device))
                values.append(torch.zeros_like(sources[name].v))
                continue
            edge = by_source[name]
            k = repeat(_cut(sources[name].k, edge), "b k g d -> b k (g r) d", r=groups)
            score = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) * q.shape[-1] ** -0.5
            seen = rearrange(sources[name].valid, "b k -> b 1 1 k")
            mask = reading.masks[name]
            seen = seen if mask is None else seen & mask.to(seen.device)
            scores.append(score.masked_fill(~seen, float("-inf")))
            values.append(_cut(sources[name].v, edge))
        score = torch.cat(scores, dim=-1)
        blind = (score == float("-inf")).all(dim=-1, keepdim=True)  # a query that sees nothing attends to nothing
        share = torch.softmax(score.masked_fill(blind, 0.0), dim=-1).masked_fill(blind, 0.0)
        v = repeat(torch.cat(values, dim=1), "b k g d -> b k (g r) d", r=groups)
        return rearrange(torch.einsum("bhqk,bkhd->bqhd", share, v.float()), "b q h d -> b q (h d)").to(q.dtype)


class Flex(Attend):
    """FlexAttention with the layout's mask as its predicate; it has no backward on CPU, so it is refused there."""

    def one(self, q: Tensor, sources: Mapping[str, Keys], reading: Reading) -> Tensor:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        if q.requires_grad and q.device.type == "cpu":
            raise InputError(
                where="Flex attention",
                expected="a device whose FlexAttention has a backward",
                got="training on cpu",
                do="Use Sdpa() (the default) or Dense() on CPU.",
            )
        k = torch.cat([_cut(sources[edge.src].k, edge) for edge in reading.edges], dim=1)
        v = torch.cat([_cut(sources[edge.src].v, edge) for edge in reading.edges], dim=1)
        mask = _mask(reading, sources, q.shape[1])
        block_mask = None
        if mask is not None:
            hidden = mask  # a lambda, because flex counts the predicate's positional arguments
            block_mask = create_block_mask(
                lambda b, h, query, key: hidden[b, query, key],
                len(mask),
                None,
                q.shape[1],
                k.shape[1],
                device=str(q.device),
            )
        attended = flex_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            block_mask=block_mask,
            enable_gqa=q.shape[2] != k.shape[2],
        )
        assert isinstance(attended, Tensor)
        return rearrange(attended, "b h n d -> b n (h d)")


def _cut(x: Tensor, edge: Edge) -> Tensor:
    return x if edge.grad else x.detach()


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
                hidden = _cut(_tapped(states[edge.src], edge), edge)
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
            hidden, valid = _cut(_tapped(states[edge.src], edge), edge), states[edge.src].valid.unsqueeze(-1)
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


__all__ = ["QKV", "Attend", "Dense", "Flex", "GroupInput", "GroupState", "Joint", "JointLayer", "Sdpa"]
