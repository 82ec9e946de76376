"""Published schedules: training grids and their weights, and two solvers on a velocity field that is linear in x.

Recorded from DreamZero's schedulers (Apache-2.0), Fast-WAM's (MIT) and diffusers' (Apache-2.0). There is no network:
the field is ``v(x, t) = x A^T + b + c t / 1000``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from crossroads.noise import (
    TIMESTEPS,
    BellWeight,
    bell_statistics,
    clean_from_velocity,
    diffusers_grid,
    grid,
    level_from_timestep,
    shift,
    training_levels,
    unipc,
    wan_grid,
)
from crossroads.parity.case import GoldenCase, Named, Tolerance
from crossroads.parity.compare import Produced

TABLES = ("bsmntw", "fastwam_continuous", "shift_map")


def run(case: GoldenCase) -> Produced:
    """Every table and trajectory of a case."""
    made, outputs = case.meta["constructor"], dict[str, Tensor]()
    for factor in made["shifts"]:
        outputs |= _tables(case.inputs, factor)
        for steps in made["steps"]:
            outputs |= _walks(case.inputs, factor, steps)
    relative = float(case.meta["tolerance"]["tables"].removeprefix("rtol "))  # "rtol 1e-5"
    tables = Tolerance(absolute=case.tolerance.absolute, relative=relative)
    return Produced(outputs=outputs, tolerances={name: tables for name in outputs if name.startswith(TABLES)})


def _tables(given: Named[Tensor], factor: float) -> dict[str, Tensor]:
    weight, levels = BellWeight(factor=factor), training_levels(factor, dtype=torch.float32)  # as recorded
    asked = level_from_timestep(given["query_timesteps"])
    return {
        f"bsmntw.shift{factor:g}.timesteps": levels * TIMESTEPS,
        f"bsmntw.shift{factor:g}.sigmas": levels,
        f"bsmntw.shift{factor:g}.weights": weight.at(levels),
        f"fastwam_continuous.shift{factor:g}.weights": weight.at(asked),
        f"fastwam_continuous.shift{factor:g}.stats": torch.tensor(bell_statistics(factor), dtype=torch.float64),
        f"shift_map.shift{factor:g}": shift(torch.linspace(0, 1, 33, dtype=torch.float64), factor),
    }


def _walks(given: Named[Tensor], factor: float, steps: int) -> dict[str, Tensor]:
    """The states of each solver at each of its levels."""
    name, x = f"shift{factor:g}.n{steps}", given["x0"]

    def field(x: Tensor, level: float) -> Tensor:
        return x @ given["A"].T + given["b"] + given["c"] * level

    levels, states = grid(steps, factor=factor), [x]
    for now, after in pairwise(levels.tolist()):
        states.append(states[-1] + (after - now) * field(states[-1], now))
    found = {}
    for solver in ("euler_fastwam", "euler_grid"):  # two implementations of the same steps
        found[f"{solver}.{name}.timesteps"] = levels[:-1] * TIMESTEPS
        found[f"{solver}.{name}.trajectory"] = torch.stack(states)
    for solver, places in (("unipc_wan", wan_grid), ("unipc_diffusers", diffusers_grid)):
        exact = places(steps, factor)
        timesteps = (exact[:-1] * TIMESTEPS).long()  # both cut them to integers and ask the network there
        found[f"{solver}.{name}.sigmas"] = exact.float()
        found[f"{solver}.{name}.timesteps"] = timesteps
        found[f"{solver}.{name}.trajectory"] = torch.stack(unipc(x, exact.float(), _clean(field, exact, timesteps)))
    return found


def _clean(
    field: Callable[[Tensor, float], Tensor], levels: Tensor, timesteps: Tensor
) -> Callable[[Tensor, int], Tensor]:
    """The estimate of ``x_0`` at a step: velocity at the cut timestep, level as the solver has it."""
    asked = level_from_timestep(timesteps).tolist()
    return lambda x, step: clean_from_velocity(x, field(x, asked[step]), levels[step].float())
