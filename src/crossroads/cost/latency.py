"""The floor under the latency of one action chunk: no schedule can be run faster on a device than this.

A pass takes at least its FLOPs at the dense peak, and at least the time in which the weights and cached keys and values
that it needs are read once from memory; passes follow one another, so their floors add up (the roofline of Williams et
al. 2009, doi 10.1145/1498765.1498785, pass by pass). Left out, because a floor must not guess: launches, transfers, the
weights of a frozen autoencoder, activations. What is reached is several times this (``crossroads eval`` measures it).
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.cost.amounts import Flops
from crossroads.cost.flops import Work
from crossroads.cost.passes import answer_weights, embedding_weights, legs_of
from crossroads.cost.price import Accelerator
from crossroads.recipe import Recipe

ACTING_BYTES = 2
"""Weights, keys and values are read in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class PassFloor:
    """``count`` passes of one kind, each with so many FLOPs over so many bytes."""

    what: str
    count: int
    flop: float
    """Of one pass, as are ``weight_bytes`` and ``cache_bytes``."""
    weight_bytes: int
    cache_bytes: int
    compute_s: float
    """Of all of them, as are ``bandwidth_s`` and ``floor_s``."""
    bandwidth_s: float

    @property
    def floor_s(self) -> float:
        return max(self.compute_s, self.bandwidth_s)

    @property
    def bound(self) -> str:
        return "compute" if self.compute_s >= self.bandwidth_s else "bandwidth"


@dataclass(frozen=True, kw_only=True)
class LatencyFloor:
    """The passes of one chunk at batch 1."""

    passes: tuple[PassFloor, ...]

    @property
    def compute_s(self) -> float:
        return sum(one.compute_s for one in self.passes)

    @property
    def bandwidth_s(self) -> float:
        return sum(one.bandwidth_s for one in self.passes)

    @property
    def floor_s(self) -> float:
        """The larger of the two of each pass, added up; never less than either sum."""
        return sum(one.floor_s for one in self.passes)

    @property
    def weight_bytes(self) -> int:
        """Weights read for one chunk."""
        return sum(one.count * one.weight_bytes for one in self.passes)


def latency_floor(recipe: Recipe, work: Work, found: Flops, on: Accelerator) -> LatencyFloor:
    """The floor of one ``act`` call, of which ``found`` are the FLOPs. Frames that were imagined are not decoded:
    acting needs their latents alone."""

    def one(what: str, count: int, flop: float, weights: int, cache: int) -> PassFloor:
        weight_bytes, cache_bytes = weights * ACTING_BYTES, cache * ACTING_BYTES
        return PassFloor(
            what=what,
            count=count,
            flop=flop,
            weight_bytes=weight_bytes,
            cache_bytes=cache_bytes,
            compute_s=count * flop / on.device.peak_flop_per_s,
            bandwidth_s=count * (weight_bytes + cache_bytes) / on.bytes_per_s,
        )

    passes = [one("autoencode the frame of now", 1, found.act.encode, 0, 0)] if found.act.encode else []
    for leg, told in zip(legs_of(recipe.stage), found.act.legs, strict=True):
        if leg.once:  # where nothing runs at every step the answer is read once (a plan's prior)
            flop, answered = (told.once, ()) if leg.running else (told.total, leg.read_out)
            passes.append(one(f"{told.leg}, once", 1, flop, weights_read(leg.once, answered, work), 0))
        if leg.running:
            weights = weights_read(leg.running, leg.read_out, work)
            there = work.beside(leg.imagined)
            cache = sum(cached_numbers(name, leg.running, there) for name in leg.cached)
            passes.append(one(f"{told.leg}, steps", leg.steps, told.moving / leg.steps, weights, cache))
    return LatencyFloor(passes=tuple(passes))


def weights_read(running: frozenset[str], read_out: tuple[str, ...], work: Work) -> int:
    """Weights that one pass multiplies by: whole towers, and the codecs of the groups that enter and leave them."""
    layout = work.layout
    towers = {layout.groups[name].tower for name in running}
    total = sum(work.specs[tower].num_parameters() + work.modulators(tower) for tower in towers)
    entering = {
        group.stream.shares or group.stream.name: embedding_weights(group, work.width(group))
        for group in (layout.groups[name] for name in sorted(running))
    }
    leaving = sum(answer_weights(layout.groups[name], work.width(layout.groups[name])) for name in read_out)
    return total + sum(entering.values()) + leaving


def cached_numbers(name: str, running: frozenset[str], work: Work) -> int:
    """Keys and values of one cached group that the running groups read, over all layers that read it."""
    heads = work.specs[work.layout.groups[name].tower].geometry
    layers: set[int] = set()
    for dst in running:
        for edge in work.layout.sources(dst):
            if edge.src == name:
                layers |= set(range(heads.depth) if edge.layers is None else edge.layers)
    return 2 * len(layers) * heads.kv_heads * heads.head_dim * work.num(name)
