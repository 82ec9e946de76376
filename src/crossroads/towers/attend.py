"""Three ways to attend over one layer's groups, which give the same numbers.

What one pass computes is planned once (``plan``): which groups share a call, which keys it reads, and its mask; every
layer with the same edges follows the same plan. ``Sdpa`` is one fused call per plan entry, ``Dense`` an explicit
float32 softmax (the reference), ``Flex`` FlexAttention where the backend has it. A cut edge reads detached keys and
values: values unchanged, gradient exactly zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import Edge


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One group's sources in one layer: the edges, and the mask of each (None: sees all; for each sample where samples
    differ)."""

    dst: str
    edges: tuple[Edge, ...]
    masks: Mapping[str, Bool[Tensor, "*b q k"] | None]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Keys and values of one cached group in one layer."""

    k: Float[Tensor, "b n g d"]
    v: Float[Tensor, "b n g d"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Adjacent tokens: of a tower's run, or of a group whose keys are cached; ``grad`` False: handed on detached."""

    source: str
    start: int
    stop: int
    cached: bool = False
    grad: bool = True


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where every group of a pass lies: the run ones in their towers, and which tokens of each source are real.

    ``valid`` of a group that grows covers its cached tokens and then its new ones; ``start`` is the number of the
    first token of each group that is there.
    """

    spans: Mapping[str, tuple[str, slice]]
    num_cached: Mapping[str, int]
    valid: Mapping[str, Bool[Tensor, "b k"]]
    start: Mapping[str, int]

    def queries(self, group: str) -> Rows:
        tower, span = self.spans[group]
        return Rows(source=tower, start=span.start, stop=span.stop)

    def keys(self, edge: Edge) -> list[Rows]:
        """What an edge reads: cached tokens first, then those that are run."""
        found = []
        if edge.src in self.num_cached:
            num = self.num_cached[edge.src]
            found.append(Rows(source=edge.src, start=0, stop=num, cached=True, grad=edge.grad))
        if edge.src in self.spans:
            found.append(replace(self.queries(edge.src), grad=edge.grad))
        return found

    def num_queries(self, group: str) -> int:
        span = self.spans[group][1]
        return span.stop - span.start

    def num_keys(self, reading: Reading) -> int:
        return sum(self.valid[edge.src].shape[1] for edge in reading.edges)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One softmax: whose queries, over which keys, and what is hidden (True: seen; a float is added to the scores).
    ``cap``: see :class:`Heads`."""

    queries: tuple[Rows, ...]
    keys: tuple[Rows, ...]
    mask: Tensor | None
    cap: float | None = None


@dataclass(frozen=True, kw_only=True)
class LayerReads:
    """What one layer reads in a pass: its calls, the cached keys, and these as a tower with maps of its own reads them
    (made when the layer first runs)."""

    calls: tuple[Call, ...]
    cached: Mapping[str, Keys]
    mapped: dict[str, dict[str, Keys]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """All of a pass that its tokens and levels have no part in: made once for all steps of a leg.

    ``conditions``: of the towers that are told no level; ``stands``: where the tokens of each group stand in the
    running sequence, where a tower looks back only so far.
    """

    spans: Mapping[str, Mapping[str, slice]]
    placed: Placed
    layers: tuple[LayerReads, ...]
    conditions: dict[str, list[object]] = field(default_factory=dict)
    stands: Mapping[str, Float[Tensor, "b k"]] = field(default_factory=dict)


class Attend:
    """A way to run a layer's attention over all towers that share a softmax."""

    max_waste: float | None = None
    """The largest share of masked scores that groups which share a call may add to it; None: each has its own call."""

    def plan(self, readings: tuple[Reading, ...], placed: Placed) -> tuple[Call, ...]:
        """The calls of every layer that has these readings."""
        calls = []
        for host, guests in _shared(readings, placed, self.max_waste):
            together = sorted((host, *guests), key=lambda reading: reading.dst)
            calls.append(
                Call(
                    queries=_merged(placed.queries(reading.dst) for reading in together),
                    keys=_merged(rows for edge in host.edges for rows in placed.keys(edge)),
                    mask=_mask(together, host.edges, placed),
                )
            )
        return tuple(calls)

    def __call__(
        self,
        q: Mapping[str, Tensor],
        k: Mapping[str, Tensor],
        v: Mapping[str, Tensor],
        cached: Mapping[str, Keys],
        calls: tuple[Call, ...],
    ) -> dict[str, Float[Tensor, "b n e"]]:
        """``q, k, v`` of every tower's run in one layer; returns what its tokens attended, by tower."""
        parts: dict[str, list[tuple[int, Tensor]]] = {}
        old_k = {name: keys.k for name, keys in cached.items()}
        old_v = {name: keys.v for name, keys in cached.items()}
        for call in calls:
            asked = _taken(call.queries, q, {})
            if call.keys:
                read = _taken(call.keys, k, old_k), _taken(call.keys, v, old_v)
                if call.cap is None:
                    attended = self.one(asked, *read, call.mask)
                else:  # no fused attention bends scores
                    attended = explicit(asked, *read, call.mask, call.cap)
            else:  # a group may read nothing in some layers
                attended = torch.zeros_like(asked).flatten(2)
            sizes = [rows.stop - rows.start for rows in call.queries]
            split = attended.split(sizes, dim=1) if len(sizes) > 1 else (attended,)
            for rows, part in zip(call.queries, split, strict=True):
                parts.setdefault(rows.source, []).append((rows.start, part))
        return {tower: _in_order(found) for tower, found in parts.items()}

    def one(
        self,
        q: Float[Tensor, "b n h d"],
        k: Float[Tensor, "b m g d"],
        v: Float[Tensor, "b m g d"],
        mask: Tensor | None,
    ) -> Float[Tensor, "b n e"]:
        """One softmax; ``mask`` is ``b n m``."""
        raise NotImplementedError  # abstract


class Sdpa(Attend):
    """One ``scaled_dot_product_attention`` per call, over only what its groups read.

    On CPU a group rides, behind a mask, in the call of another that reads all it reads and little more: at small
    sizes the number of calls and copies is what a step costs. At ``max_waste`` 0 exactly the scores are computed that
    the layout asks for.
    """

    def __init__(self, *, max_waste: float = 0.1) -> None:
        self.max_waste = max_waste

    def plan(self, readings: tuple[Reading, ...], placed: Placed) -> tuple[Call, ...]:
        if next(iter(placed.valid.values())).device.type != "cpu":
            return Attend().plan(readings, placed)
        return super().plan(readings, placed)

    def one(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None and k.shape[2] == 1 and q.device.type == "cpu":  # all heads' queries ask the same keys at once
            asked = q.flatten(1, 2).unsqueeze(1)
            attended = functional.scaled_dot_product_attention(asked, k.transpose(1, 2), v.transpose(1, 2))
            return attended.reshape(*q.shape[:2], -1)
        attended = functional.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=None if mask is None else mask.unsqueeze(1),
            enable_gqa=q.shape[2] != k.shape[2],
        )
        return attended.transpose(1, 2).flatten(2)


class Dense(Attend):
    """The reference: an explicit float32 softmax over a masked score matrix, one group at a time."""

    def one(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return explicit(q, k, v, mask, None)


class Flex(Attend):
    """FlexAttention with the layout's mask as its predicate; it has no backward on CPU, so it is refused there."""

    def one(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        if q.requires_grad and q.device.type == "cpu":
            raise InputError(
                where="Flex attention",
                expected="a device whose FlexAttention has a backward",
                got="training on cpu",
                do="Use Sdpa() (the default) or Dense() on CPU.",
            )
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


def explicit(
    q: Float[Tensor, "b n h d"],
    k: Float[Tensor, "b m g d"],
    v: Float[Tensor, "b m g d"],
    mask: Bool[Tensor, "b n m"] | None,
    cap: float | None,
) -> Float[Tensor, "b n e"]:
    """One softmax in float32 with all its scores, which may be bent below ``cap``."""
    groups = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    score = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) * q.shape[-1] ** -0.5
    if cap is not None:
        score = cap * torch.tanh(score / cap)
    if mask is not None:
        score = score.masked_fill(~rearrange(mask, "b q k -> b 1 q k"), float("-inf"))
    blind = (score == float("-inf")).all(dim=-1, keepdim=True)  # a query that sees nothing attends to nothing
    share = torch.softmax(score.masked_fill(blind, 0.0), dim=-1).masked_fill(blind, 0.0)
    return rearrange(torch.einsum("bhqk,bkhd->bqhd", share, v.float()), "b q h d -> b q (h d)").to(q.dtype)


def cut(x: Tensor, edge: Edge) -> Tensor:
    """What an edge lets through: a cut edge hands on values without their gradient."""
    return x if edge.grad else x.detach()


def _shared(
    readings: tuple[Reading, ...], placed: Placed, max_waste: float | None
) -> list[tuple[Reading, list[Reading]]]:
    """Which readings are hosts of a call, and which ride with each."""

    def read(reading: Reading) -> set[tuple[str, bool]]:
        return {(edge.src, edge.grad) for edge in reading.edges}

    if max_waste is None:
        return [(reading, []) for reading in readings]
    hosts: list[tuple[Reading, list[Reading]]] = []
    for reading in sorted(readings, key=placed.num_keys, reverse=True):
        asked = placed.num_queries(reading.dst)
        for host, guests in hosts:
            paid = placed.num_queries(host.dst) * placed.num_keys(host)
            wasted = asked * (placed.num_keys(host) - placed.num_keys(reading))
            if reading.edges and read(reading) <= read(host) and wasted <= max_waste * paid:
                guests.append(reading)
                break
        else:
            hosts.append((reading, []))
    return hosts


def _mask(together: list[Reading], edges: tuple[Edge, ...], placed: Placed) -> Tensor | None:
    """What each token of some groups sees of all that ``edges`` read: ``b q k``; None when nothing is hidden."""
    whole = all(bool(placed.valid[edge.src].all()) for edge in edges)
    names = {edge.src for edge in edges}
    if whole and all({e.src for e in r.edges} == names and _open(r) for r in together):
        return None
    rows = []
    for reading in together:
        own, num = {edge.src for edge in reading.edges}, placed.num_queries(reading.dst)
        parts = []
        for edge in edges:
            valid = placed.valid[edge.src].unsqueeze(1).expand(-1, num, -1)
            mask = reading.masks.get(edge.src)
            if edge.src not in own:
                valid = torch.zeros_like(valid)
            parts.append(valid if mask is None else valid & mask.to(valid.device))
        if parts:
            rows.append(torch.cat(parts, dim=-1))
    return torch.cat(rows, dim=1) if rows else None


def _open(reading: Reading) -> bool:
    return all(reading.masks.get(edge.src) is None for edge in reading.edges)


def _merged(rows: Iterable[Rows]) -> tuple[Rows, ...]:
    """Neighbours that follow each other in one tower and are cut alike become one, so that nothing is copied twice."""
    found: list[Rows] = []
    for row in rows:
        last = found[-1] if found else None
        if last and not row.cached and last == replace(row, start=last.start, stop=row.start):
            found[-1] = replace(last, stop=row.stop)
        else:
            found.append(row)
    return tuple(found)


def _taken(rows: tuple[Rows, ...], run: Mapping[str, Tensor], cached: Mapping[str, Tensor]) -> Tensor:
    """The tokens of some rows, side by side."""
    parts = []
    for row in rows:
        whole = (cached if row.cached else run)[row.source]
        part = whole if (row.start, row.stop) == (0, whole.shape[1]) else whole[:, row.start : row.stop]
        parts.append(part if row.grad else part.detach())
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _in_order(parts: list[tuple[int, Tensor]]) -> Tensor:
    if len(parts) == 1:
        return parts[0][1]
    return torch.cat([part for _, part in sorted(parts, key=lambda part: part[0])], dim=1)
