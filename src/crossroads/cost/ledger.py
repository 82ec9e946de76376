"""What published systems cost to train, each row computed from its inputs and compared with the figure that was stated.

Conventions: training FLOPs are ``6 N T`` (trainable dense parameters, tokens; Kaplan et al. 2020, arXiv 2001.08361,
section 2.1); one ZFLOP is 1e21 FLOP; one ZFLOP takes 936 H100-hours, which is a dense bfloat16 peak of 989.4 TFLOP/s
at 30 % utilisation. Left out on purpose: frozen encoders, data loading, attention beyond 6NT, communication.

A row says on what basis it stands. Hours that somebody reported and ``6 N T`` agree to a factor of about two at best
(see ``compare``), and a convolutional network does not follow ``6 N T`` at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crossroads.errors import InputError, nearest

FLOP_PER_ZFLOP = 1e21
H100_HOURS_PER_ZFLOP = 936.0
"""1e21 / (989.4e12 * 0.30 * 3600), rounded as the published table rounds it."""

Basis = Literal["6NT", "reported-hours", "cnn"]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Training of a dense network on tokens: 6 N T."""

    parameters: float
    tokens: float
    basis: Basis = "6NT"

    @property
    def flop(self) -> float:
        return 6.0 * self.parameters * self.tokens


@dataclass(frozen=True, kw_only=True)
class ReportedHours:
    """Hours on H100s that the authors reported, turned into FLOP by the constant."""

    h100_hours: float
    basis: Basis = "reported-hours"

    @property
    def flop(self) -> float:
        return self.h100_hours / H100_HOURS_PER_ZFLOP * FLOP_PER_ZFLOP


@dataclass(frozen=True, kw_only=True)
class Convolutions:
    """A video UNet: forward 2 N per effective pixel, training three times that. An order of magnitude, not more."""

    parameters: float
    effective_pixels: float
    """An input of the estimate, not a computed value."""
    videos: float
    basis: Basis = "cnn"

    @property
    def flop(self) -> float:
        return 3.0 * 2.0 * self.parameters * self.effective_pixels * self.videos


Part = Tokens | ReportedHours | Convolutions


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training run (or a chain of them), what it computes to, and what its source says."""

    name: str
    what: str
    parts: tuple[Part, ...]
    stated_zflop: float
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


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times dearer one row is; ``warning`` is empty only where both stand on the same single basis."""

    value: float
    warning: str


_POST = "VLA against world-action models: training-cost table, footnote 1 (2026)"
_FOUNDRY_LLM = Tokens(parameters=1.23e9, tokens=800e9)
_FOUNDRY_VLM = Tokens(parameters=1.32e9, tokens=200e6 * 256)
_FOUNDRY_VLA = Tokens(parameters=1.65e9, tokens=102.4e6 * 549)
_DREAMZERO = Tokens(parameters=14e9, tokens=100e3 * 128 * 8361)

ROWS: tuple[Row, ...] = (
    Row(
        name="vla_foundry_llm",
        what="language model of VLA Foundry: 1.23B parameters, 800B tokens",
        parts=(_FOUNDRY_LLM,),
        stated_zflop=5.9,
        source=_POST,
    ),
    Row(
        name="vla_foundry_vlm",
        what="its vision-language stage: 200M pairs of 256 tokens",
        parts=(_FOUNDRY_VLM,),
        stated_zflop=0.41,
        source=_POST,
    ),
    Row(
        name="vla_foundry_vla",
        what="its robot stage: 102.4M samples of 549 tokens (a stated average, not derived)",
        parts=(_FOUNDRY_VLA,),
        stated_zflop=0.56,
        source=_POST,
    ),
    Row(
        name="vla_foundry_full",
        what="the three stages of VLA Foundry",
        parts=(_FOUNDRY_LLM, _FOUNDRY_VLM, _FOUNDRY_VLA),
        stated_zflop=6.9,
        source=_POST,
    ),
    Row(
        name="pi_fast_droid_240k",
        what="pi0-FAST on DROID: 240k steps of 256 samples of 700 tokens",
        parts=(Tokens(parameters=3e9, tokens=240e3 * 256 * 700),),
        stated_zflop=0.77,
        source=_POST,
    ),
    Row(
        name="pi_fast_droid_100k",
        what="the same, 100k steps as in the public configuration",
        parts=(Tokens(parameters=3e9, tokens=100e3 * 256 * 700),),
        stated_zflop=0.32,
        source="openpi, configuration pi0_fast_full_droid_finetune",
    ),
    Row(
        name="dreamzero_low",
        what="DreamZero: 100k steps of 128 samples of 8,000 tokens",
        parts=(Tokens(parameters=14e9, tokens=100e3 * 128 * 8000),),
        stated_zflop=8.6,
        source=_POST,
    ),
    Row(
        name="dreamzero_high",
        what="DreamZero with 8,361 tokens per sample, the plotted end",
        parts=(_DREAMZERO,),
        stated_zflop=9.0,
        source=_POST,
    ),
    Row(
        name="molmoact2_droid",
        what="MolmoAct2: 5,760 + 2,300 + 1,150 H100-hours",
        parts=tuple(ReportedHours(h100_hours=hours) for hours in (5760, 2300, 1150)),
        stated_zflop=9.8,
        source=_POST,
    ),
    Row(
        name="molmoact2_droid_table",
        what="the same as its own table adds it: 5,760 + 2,304 + 1,152",
        parts=tuple(ReportedHours(h100_hours=hours) for hours in (5760, 2304, 1152)),
        stated_zflop=9.8,
        source="MolmoAct2 (2026), compute table",
    ),
    Row(
        name="summer_22b",
        what="a video model from nothing: 22B parameters, 500B tokens",
        parts=(Tokens(parameters=22e9, tokens=500e9),),
        stated_zflop=66.0,
        source=_POST,
    ),
    Row(
        name="wan14b_stack",
        what="the world-action stack as tabled: a 14B video model on 500B tokens, then DreamZero",
        parts=(Tokens(parameters=14e9, tokens=500e9), _DREAMZERO),
        stated_zflop=51.0,
        source=_POST,
    ),
    Row(
        name="summer_plus_dreamzero",
        what="the world-action stack as the footnote has it: the 22B video model, then DreamZero",
        parts=(Tokens(parameters=22e9, tokens=500e9), _DREAMZERO),
        stated_zflop=75.0,
        source=_POST,
    ),
    Row(
        name="unipi",
        what="UniPi's base video model: 1.7B, 2M steps of 2,048 clips at about 4,000 effective pixels",
        parts=(Convolutions(parameters=1.7e9, effective_pixels=4000, videos=2048 * 2e6),),
        stated_zflop=167.0,
        source="the same post, footnote 2; Du et al. 2023, arXiv 2302.00111",
    ),
    Row(
        name="cosmos_policy_libero",
        what="Cosmos Policy on LIBERO: 64 H100s for 48 hours",
        parts=(ReportedHours(h100_hours=64 * 48),),
        stated_zflop=3.28,
        source="Cosmos Policy (2026), training details",
    ),
    Row(
        name="cosmos_policy_robocasa",
        what="Cosmos Policy on RoboCasa: 32 H100s for 48 hours",
        parts=(ReportedHours(h100_hours=32 * 48),),
        stated_zflop=1.64,
        source="Cosmos Policy (2026), training details",
    ),
    Row(
        name="cosmos_policy_aloha",
        what="Cosmos Policy on ALOHA: 8 H100s for 48 hours",
        parts=(ReportedHours(h100_hours=8 * 48),),
        stated_zflop=0.41,
        source="Cosmos Policy (2026), training details",
    ),
)

LEDGER: Mapping[str, Row] = {row.name: row for row in ROWS}


def row(name: str) -> Row:
    """The row of a name, or an error that suggests the nearest."""
    if name not in LEDGER:
        raise InputError(where="cost ledger", expected="a known row", got=repr(name), do=nearest(name, LEDGER))
    return LEDGER[name]


def compare(dearer: Row, cheaper: Row) -> Ratio:
    """``dearer / cheaper``, with a warning where the two rows were not estimated in the same way."""
    bases = sorted({*dearer.bases, *cheaper.bases})
    # pi0-FAST on DROID: 384 reported H100-hours against 302 by 6NT; MolmoAct2's pretraining: 5,760 against 3,020.
    warning = (
        f"{dearer.name} and {cheaper.name} stand on different bases ({', '.join(bases)}); "
        "the ratio is known to a factor of about two at best."
    )
    return Ratio(value=dearer.zflop / cheaper.zflop, warning="" if len(bases) == 1 else warning)


def table() -> str:
    """The ledger as text, one row per line."""
    head = f"{'row':24} {'ZFLOP':>8} {'stated':>8} {'H100-h':>9}  {'basis':15} what"
    lines = [
        f"{row.name:24} {row.zflop:8.4g} {row.stated_zflop:8.4g} {row.h100_hours:9,.0f}  {'+'.join(row.bases):15} "
        f"{row.what}"
        for row in ROWS
    ]
    return "\n".join([head, *lines])
