"""Three ways to attend over one layer's groups, which give the same numbers.

``Sdpa`` (one fused call per reading group, over only what it reads), ``Dense`` (one masked softmax over everything,
the reference), ``Flex`` (FlexAttention where the backend has it). A cut edge reads detached keys and values: values
unchanged, gradient exactly zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.streams import Edge


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
    k = torch.cat([cut(sources[edge.src].k, edge) for edge in edges], dim=1)
    v = torch.cat([cut(sources[edge.src].v, edge) for edge in edges], dim=1)
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
            k = repeat(cut(sources[name].k, edge), "b k g d -> b k (g r) d", r=groups)
            score = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) * q.shape[-1] ** -0.5
            seen = rearrange(sources[name].valid, "b k -> b 1 1 k")
            mask = reading.masks[name]
            seen = seen if mask is None else seen & mask.to(seen.device)
            scores.append(score.masked_fill(~seen, float("-inf")))
            values.append(cut(sources[name].v, edge))
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
        k = torch.cat([cut(sources[edge.src].k, edge) for edge in reading.edges], dim=1)
        v = torch.cat([cut(sources[edge.src].v, edge) for edge in reading.edges], dim=1)
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


def cut(x: Tensor, edge: Edge) -> Tensor:
    """What an edge lets through: a cut edge hands on values without their gradient."""
    return x if edge.grad else x.detach()
