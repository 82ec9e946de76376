"""What published systems cost to train, computed from stated inputs and compared with the figures that were stated.

A row says on what basis it stands (``estimates``). Hours that somebody reported and ``6 N T`` agree to a factor of
about two at best (``CALIBRATIONS``), and a convolutional network does not follow ``6 N T`` at all, so rows of different
bases are divided only where that is asked for, and the answer then says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossroads.cost.estimates import (
    H100_HOURS_PER_ZFLOP,
    AtRate,
    Calibration,
    Convolutions,
    Factor,
    ReportedHours,
    Row,
    Tokens,
)
from crossroads.errors import InputError, nearest

_POST = "VLA against world-action models: training-cost table, footnote 1 (2026)"
_COSMOS_POLICY = "Cosmos Policy (2026), training details"


def _tokens(parameters: float, *factors: tuple[float, str]) -> Tokens:
    return Tokens(parameters=parameters, tokens=tuple(Factor(value=value, what=what) for value, what in factors))


_STEPS, _SAMPLES, _TOKENS = "steps", "samples a step", "tokens a sample"
_FOUNDRY_LLM = _tokens(1.23e9, (800e9, "tokens"))
_FOUNDRY_VLM = _tokens(1.32e9, (200e6, "pairs"), (256, "tokens a pair"))
_FOUNDRY_VLA = _tokens(1.65e9, (102.4e6, "samples"), (549, _TOKENS))
_DREAMZERO = _tokens(14e9, (100e3, _STEPS), (128, _SAMPLES), (8361, _TOKENS))
_SUMMER = _tokens(22e9, (500e9, "tokens"))

ROWS: tuple[Row, ...] = (
    Row(
        name="vla_foundry_llm",
        what="language model of VLA Foundry: 1.23B parameters, 800B tokens",
        parts=(_FOUNDRY_LLM,),
        stated="5.9",
        stated_hours="5.5k",
        source=_POST,
    ),
    Row(
        name="vla_foundry_vlm",
        what="its vision-language stage: 200M pairs of 256 tokens",
        parts=(_FOUNDRY_VLM,),
        stated="0.41",
        stated_hours="0.4k",
        source=_POST,
    ),
    Row(
        name="vla_foundry_vla",
        what="its robot stage: 102.4M samples of 549 tokens (a stated average, not derived)",
        parts=(_FOUNDRY_VLA,),
        stated="0.56",
        stated_hours="0.5k",
        source=_POST,
    ),
    Row(
        name="vla_foundry_full",
        what="the three stages of VLA Foundry",
        parts=(_FOUNDRY_LLM, _FOUNDRY_VLM, _FOUNDRY_VLA),
        stated="6.9",
        source=_POST,
    ),
    Row(
        name="pi_fast_droid_240k",
        what="pi0-FAST on DROID: 240k steps of 256 samples of 700 tokens",
        parts=(_tokens(3e9, (240e3, _STEPS), (256, _SAMPLES), (700, _TOKENS)),),
        stated="0.77",
        stated_hours="0.7k",
        source=_POST,
    ),
    Row(
        name="pi_fast_droid_100k",
        what="the same, 100k steps as in the public configuration",
        parts=(_tokens(3e9, (100e3, _STEPS), (256, _SAMPLES), (700, _TOKENS)),),
        stated="0.32",
        source="openpi, configuration pi0_fast_full_droid_finetune",
    ),
    Row(
        name="dreamzero_low",
        what="DreamZero: 100k steps of 128 samples of 8,000 tokens",
        parts=(_tokens(14e9, (100e3, _STEPS), (128, _SAMPLES), (8000, _TOKENS)),),
        stated="8.6",
        source=_POST,
    ),
    Row(
        name="dreamzero_high",
        what="DreamZero with 8,361 tokens per sample, the plotted end",
        parts=(_DREAMZERO,),
        stated="9.0",
        stated_hours="8.4k",
        source=_POST,
    ),
    Row(
        name="molmoact2_droid",
        what="MolmoAct2: 5,760 + 2,300 + 1,150 H100-hours",
        parts=tuple(ReportedHours(h100_hours=hours) for hours in (5760, 2300, 1150)),
        stated="9.8",
        source=_POST,
    ),
    Row(
        name="molmoact2_droid_table",
        what="the same as its own table adds it: 5,760 + 2,304 + 1,152",
        parts=tuple(ReportedHours(h100_hours=hours) for hours in (5760, 2304, 1152)),
        stated="9.8",
        source="MolmoAct2 (2026), compute table",
    ),
    Row(
        name="summer_22b",
        what="a video model from nothing: 22B parameters, 500B tokens",
        parts=(_SUMMER,),
        stated="66",
        stated_hours="62k",
        source=_POST,
    ),
    Row(
        name="wan14b_stack",
        what="the world-action stack as tabled: a 14B video model on 500B tokens, then DreamZero",
        parts=(_tokens(14e9, (500e9, "tokens")), _DREAMZERO),
        stated="51",
        source=_POST,
    ),
    Row(
        name="summer_plus_dreamzero",
        what="the world-action stack as the footnote has it: the 22B video model, then DreamZero",
        parts=(_SUMMER, _DREAMZERO),
        stated="75.0",
        stated_hours="70k",
        source=_POST,
    ),
    Row(
        name="unipi",
        what="UniPi's base video model: 1.7B, 2M steps of 2,048 clips at about 4,000 effective pixels",
        parts=(
            Convolutions(
                parameters=1.7e9,
                effective_pixels=4000,
                videos=(Factor(value=2e6, what=_STEPS), Factor(value=2048, what="clips a step")),
            ),
        ),
        stated="167",
        stated_hours="156k",
        at_rate=AtRate(flop_per_s=224e12, stated="207k"),
        source="the same post, footnote 2; Du et al. 2023, arXiv 2302.00111",
    ),
    Row(
        name="cosmos_policy_libero",
        what="Cosmos Policy on LIBERO: 64 H100s for 48 hours",
        parts=(ReportedHours(h100_hours=64 * 48),),
        stated="3.28",
        source=_COSMOS_POLICY,
    ),
    Row(
        name="cosmos_policy_robocasa",
        what="Cosmos Policy on RoboCasa: 32 H100s for 48 hours",
        parts=(ReportedHours(h100_hours=32 * 48),),
        stated="1.64",
        source=_COSMOS_POLICY,
    ),
    Row(
        name="cosmos_policy_aloha",
        what="Cosmos Policy on ALOHA: 8 H100s for 48 hours",
        parts=(ReportedHours(h100_hours=8 * 48),),
        stated="0.41",
        source=_COSMOS_POLICY,
    ),
    Row(
        name="lingbot_va",
        what="LingBot-VA: 5.3B parameters, 1.4T tokens by its paper, which does not say what these count",
        parts=(_tokens(5.3e9, (1.4e12, "tokens")),),
        stated="",
        source="LingBot-VA (2026), pretraining data; its issue 83 asks what the tokens are",
    ),
)

LEDGER: Mapping[str, Row] = {row.name: row for row in ROWS}

CALIBRATIONS: tuple[Calibration, ...] = (
    Calibration(
        what="pi0-FAST on all of DROID, 100k steps of 256, 700 tokens: about two days on eight H100s",
        reported_hours=2 * 24 * 8,
        bound=_tokens(3e9, (100e3, _STEPS), (256, _SAMPLES), (700, _TOKENS)),
        source="openpi, comment in the configuration pi0_fast_full_droid_finetune",
    ),
    Calibration(
        what="the same with the masked third image counted, 948 tokens",
        reported_hours=2 * 24 * 8,
        bound=_tokens(3e9, (100e3, _STEPS), (256, _SAMPLES), (948, _TOKENS)),
        source="openpi, the same comment",
    ),
    Calibration(
        what="MolmoAct2's pretraining, 200k steps of 128 at no more than 4,200 tokens, 64 H100s",
        reported_hours=5760,
        bound=_tokens(5e9, (200e3, _STEPS), (128, _SAMPLES), (4200, _TOKENS)),
        source="MolmoAct2 (2026), compute table",
    ),
)
"""Runs of which both are known: they say how far apart two bases are."""

QUOTED = ("wan14b_stack", "vla_foundry_full", "7.4")
"""The ratio that the post quotes in its text, from rounded figures (51 / 6.9)."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times dearer one row is; ``warning`` is empty only where both stand on the same single basis."""

    dearer: Row
    cheaper: Row
    value: float
    warning: str

    def __str__(self) -> str:
        names = f"{self.dearer.name} / {self.cheaper.name}"
        if self.warning:
            return f"{names} = about {self.value:.2g}\n{self.warning}"
        return f"{names} = {self.value:.4g}, both on the basis {self.dearer.basis}"

    def plain(self) -> dict[str, Any]:
        """The ratio as plain values, for JSON."""
        return {
            "dearer": self.dearer.plain(),
            "cheaper": self.cheaper.plain(),
            "value": self.value,
            "warning": self.warning,
        }


def row(name: str) -> Row:
    """The row of a name, or an error that suggests the nearest."""
    if name not in LEDGER:
        raise InputError(where="cost ledger", expected="a known row", got=repr(name), do=nearest(name, LEDGER))
    return LEDGER[name]


def compare(dearer: Row, cheaper: Row, *, across_bases: bool = False) -> Ratio:
    """``dearer / cheaper``.

    Raises:
        InputError: the two rows were not estimated in the same way, and ``across_bases`` does not accept that.
    """
    alike = len({*dearer.bases, *cheaper.bases}) == 1
    stand = f"{dearer.name} on {dearer.basis}, {cheaper.name} on {cheaper.basis}"
    if not alike and not across_bases:
        raise InputError(
            where=f"ratio of {dearer.name!r} and {cheaper.name!r}",
            expected="two rows on one basis",
            got=stand,
            do="Choose rows of one basis, or accept a factor of about two with --across-bases.",
        )
    spread = ", ".join(f"{found.utilisation:.1%}" for found in CALIBRATIONS)
    warning = (
        f"Across bases ({stand}): known to a factor of about two at best. Where both are known, 6NT in the reported "
        f"hours comes to {spread} of peak, where the conversion assumes 30 %."
    )
    return Ratio(dearer=dearer, cheaper=cheaper, value=dearer.zflop / cheaper.zflop, warning="" if alike else warning)


def table() -> str:
    """The ledger as text: one row per line, then the formula of each, the quoted ratio and the calibrations."""
    head = f"{'row':24} {'ZFLOP':>8} {'stated':>7} {'H100-h':>9} {'stated':>7}  {'basis':15} what"
    lines = [
        f"{row.name:24} {row.zflop:8.4g} {row.stated or '-':>7} {row.h100_hours:9,.0f} {row.stated_hours or '-':>7}  "
        f"{row.basis:15} {row.what}"
        for row in ROWS
    ]
    formulas = [f"{row.name:24} {row.formula}{_elsewhere(row)}; {row.source}" for row in ROWS]
    dearer, cheaper, quoted = QUOTED
    ratio = compare(row(dearer), row(cheaper))
    known = [
        f"{found.utilisation:6.1%} of peak: {found.what}: {found.reported_hours:,.0f} H100-h reported, "
        f"{found.bound_hours:,.0f} by 6NT; {found.source}"
        for found in CALIBRATIONS
    ]
    return "\n".join(
        [
            head,
            *lines,
            "",
            f"formulas (1 ZFLOP = 1e21 FLOP = {H100_HOURS_PER_ZFLOP:g} H100-h: 989.4 TFLOP/s dense bfloat16 at 30 %)",
            *formulas,
            "",
            f"{ratio} (quoted as {quoted})",
            "",
            "how far 6NT is from reported hours, where both are known",
            *known,
        ]
    )


def plain() -> dict[str, Any]:
    """The ledger as plain values, for JSON."""
    dearer, cheaper, quoted = QUOTED
    ratio = compare(row(dearer), row(cheaper)).value
    return {
        "h100_hours_per_zflop": H100_HOURS_PER_ZFLOP,
        "rows": [found.plain() for found in ROWS],
        "ratio": {"dearer": dearer, "cheaper": cheaper, "value": ratio, "quoted": quoted},
        "calibrations": [
            {
                "what": found.what,
                "reported_h100_hours": found.reported_hours,
                "bound_h100_hours": found.bound_hours,
                "utilisation": found.utilisation,
                "source": found.source,
            }
            for found in CALIBRATIONS
        ],
    }


def _elsewhere(row: Row) -> str:
    if row.at_rate is None:
        return ""
    hours = row.flop / row.at_rate.flop_per_s / 3600
    return f" (at {row.at_rate.flop_per_s / 1e12:g} TFLOP/s {hours:,.0f} H100-h, stated {row.at_rate.stated})"
