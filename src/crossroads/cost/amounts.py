"""Amounts of a recipe: its weights, and the floating point operations of acting and of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Weights by part: ``towers.*``, ``codecs.*``, ``modulators.*`` and ``autoencoders.*`` (which no phase trains)."""

    parts: Mapping[str, int]
    trained: Mapping[str, int]
    """By phase."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class LegFlops:
    """One leg: what it caches before it moves (``once``), and all its ``steps`` together (``moving``)."""

    leg: str
    once: int
    steps: int
    moving: int

    @property
    def total(self) -> int:
        return self.once + self.moving


@dataclass(frozen=True, kw_only=True)
class ActFlops:
    """One ``act`` call: raw to latents, the legs, latents to raw."""

    encode: int
    legs: tuple[LegFlops, ...]
    decode: int

    @property
    def total(self) -> int:
        return self.encode + sum(leg.total for leg in self.legs) + self.decode


@dataclass(frozen=True, kw_only=True)
class SampleFlops:
    """One training sample of a phase; ``encode`` is the frozen autoencoder's work, in ``forward`` already."""

    encode: int
    forward: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward + self.backward


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Forward FLOPs of acting, and FLOPs of one training sample by phase: from raw data, and from cached features."""

    act: ActFlops
    train: Mapping[str, SampleFlops]
    train_cached: Mapping[str, SampleFlops]
