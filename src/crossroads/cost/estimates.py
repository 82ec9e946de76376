"""How the training cost of somebody else's run is estimated: by tokens, by reported hours, or by convolutions.

Conventions: training FLOPs are ``6 N T`` (trainable dense parameters, tokens; Kaplan et al. 2020, arXiv 2001.08361,
section 2.1); one ZFLOP is 1e21 FLOP; one ZFLOP takes 936 H100-hours, which is a dense bfloat16 peak of 989.4 TFLOP/s
at 30 % utilisation. Left out on purpose: frozen encoders, data loading, attention beyond 6NT, communication.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

FLOP_PER_ZFLOP = 1e21
H100_HOURS_PER_ZFLOP = 936.0
"""1e21 / (989.4e12 * 0.30 * 3600), rounded as the published table rounds it."""
UTILISATION = 0.30
"""What that constant assumes."""

Basis = Literal["6NT", "reported-hours", "cnn"]


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One input of an estimate and what it counts."""

    what: str
    value: float

    def __str__(self) -> str:
        return f"{short(self.value)} {self.what}"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Training of a dense network on tokens: 6 N T; T is the product of ``tokens``."""

    parameters: float
    tokens: tuple[Factor, ...]
    basis: Basis = "6NT"

    @property
    def flop(self) -> float:
        return 6.0 * self.parameters * math.prod(factor.value for factor in self.tokens)

    @property
    def formula(self) -> str:
        return f"6 x {short(self.parameters)} parameters x " + " x ".join(map(str, self.tokens))


@dataclass(frozen=True, kw_only=True)
class ReportedHours:
    """Hours on H100s that the authors reported, turned into FLOP by the constant."""

    h100_hours: float
    basis: Basis = "reported-hours"

    @property
    def flop(self) -> float:
        return self.h100_hours / H100_HOURS_PER_ZFLOP * FLOP_PER_ZFLOP

    @property
    def formula(self) -> str:
        return f"{self.h100_hours:,.0f} H100-h / {H100_HOURS_PER_ZFLOP:g}"


@dataclass(frozen=True, kw_only=True)
class Convolutions:
    """A video UNet: forward 2 N per effective pixel, training three times that. An order of magnitude, not more."""

    parameters: float
    effective_pixels: float
    """An input of the estimate, not a computed value."""
    videos: tuple[Factor, ...]
    basis: Basis = "cnn"

    @property
    def flop(self) -> float:
        return 3.0 * 2.0 * self.parameters * self.effective_pixels * math.prod(factor.value for factor in self.videos)

    @property
    def formula(self) -> str:
        pixels = f"{short(self.effective_pixels)} effective pixels"
        return f"3 x 2 x {short(self.parameters)} parameters x {pixels} x " + " x ".join(map(str, self.videos))


Part = Tokens | ReportedHours | Convolutions


@dataclass(frozen=True, kw_only=True)
class AtRate:
    """Hours that a source states at another sustained rate than the constant's."""

    flop_per_s: float
    stated: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training run (or a chain of them), what it computes to, and what its source says in its own digits."""

    name: str
    what: str
    parts: tuple[Part, ...]
    stated: str
    """ZFLOP; empty where no source states them."""
    stated_hours: str = ""
    """H100-hours, ``k`` for a thousand; empty where no source states them."""
    at_rate: AtRate | None = None
    source: str

    @property
    def flop(self) -> float:
        return sum(part.flop for part in self.parts)

    @property
    def zflop(self) -> float:
        return self.flop / FLOP_PER_ZFLOP

    @property
    def h100_hours(self) -> float:
        return self.zflop * H100_HOURS_PER_ZFLOP

    @property
    def bases(self) -> tuple[Basis, ...]:
        """On what the row stands; more than one where its parts were estimated differently."""
        return tuple(sorted({part.basis for part in self.parts}))

    @property
    def basis(self) -> str:
        return "+".join(self.bases)

    @property
    def formula(self) -> str:
        """The parts added up."""
        if len(self.parts) == 1:
            return self.parts[0].formula
        return " + ".join(f"({part.formula})" for part in self.parts)

    def plain(self) -> dict[str, Any]:
        """The row as plain values, for JSON."""
        return {
            "name": self.name,
            "what": self.what,
            "formula": self.formula,
            "basis": self.basis,
            "zflop": self.zflop,
            "h100_hours": self.h100_hours,
            "stated_zflop": self.stated,
            "stated_h100_hours": self.stated_hours,
            "source": self.source,
        }


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One run of which both the hours and the inputs of ``6 N T`` are known."""

    what: str
    reported_hours: float
    bound: Tokens
    source: str

    @property
    def bound_hours(self) -> float:
        return self.bound.flop / FLOP_PER_ZFLOP * H100_HOURS_PER_ZFLOP

    @property
    def utilisation(self) -> float:
        """The share of peak that ``6 N T`` in the reported hours comes to."""
        return UTILISATION * self.bound_hours / self.reported_hours


def short(number: float) -> str:
    """A count as people write it: 1.23B, 240k, 8,361."""
    for power, letter in ((12, "T"), (9, "B"), (6, "M"), (3, "k")):
        if number >= max(1e5, 10**power):
            return f"{number / 10**power:.6g}{letter}"
    return f"{number:,g}"
