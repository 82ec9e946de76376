"""Real-time chunking as recorded from LeRobot's ``RTCProcessor`` (Apache-2.0): tables of weights, and Euler steps on a
velocity field that is linear in x. There is no network: ``v(x, t) = T x D + b + t c`` over steps and dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from crossroads.chunking import Fade, Guided, Kept
from crossroads.parity.case import GoldenCase, Named, Tolerance
from crossroads.parity.compare import Produced

FADES: Mapping[str, Fade] = {"ZEROS": "none", "ONES": "full", "LINEAR": "linear", "EXP": "exponential"}


def run(case: GoldenCase) -> Produced:
    """Every table and every run of a case."""
    made, outputs = case.meta["constructor"], dict[str, Tensor]()
    for table in made["weight_tables"]:
        for name, fade in FADES.items():
            weights = Guided(horizon=table["end"], fade=fade).weights(table["total"], table["start"])
            outputs[f"weights_{table['index']}_{name}"] = weights
    for settings in made["runs"]:
        outputs |= _guided(case.inputs, settings, made["steps"])
    outputs["unguided_actions"] = _walk(case.inputs, made["steps"], None)[1][-1]
    tables = Tolerance(absolute=float(case.meta["tolerance"]["weights_abs"]))
    return Produced(outputs=outputs, tolerances={name: tables for name in outputs if name.startswith("weights")})


def _guided(given: Named[Tensor], settings: Mapping[str, Any], steps: int) -> dict[str, Tensor]:
    """One run."""
    keep = Guided(
        horizon=settings["execution_horizon"],
        fade=FADES[settings["schedule"]],
        limit=settings["max_guidance_weight"],
    )
    before, length = given["previous_chunk"], given["noise"].shape[1]
    padded = torch.nn.functional.pad(before, (0, 0, 0, length - before.shape[1]))
    kept = Kept(values=padded, num=before.shape[1], delay=settings["inference_delay"], keep=keep)
    velocities, states = _walk(given, steps, kept)
    name = f"run_{settings['index']}"
    return {
        f"{name}_guided_velocity": torch.stack(velocities),
        f"{name}_x": torch.stack(states),
        f"{name}_actions": states[-1],
    }


def _walk(given: Named[Tensor], steps: int, kept: Kept | None) -> tuple[list[Tensor], list[Tensor]]:
    """The velocities that are followed and the states that are reached, at levels in double precision as recorded."""
    x, velocities, states = given["noise"], list[Tensor](), list[Tensor]()
    for step in range(steps):
        level = 1 - step / steps
        mixed = torch.einsum("st,btd,de->bse", given["time_mix"], x, given["dim_mix"])
        found = mixed + given["bias"] + level * given["time_bias"]
        velocities.append(found if kept is None else kept.velocity(x, found, level))
        x = x - velocities[-1] / steps
        states.append(x)
    return velocities, states
