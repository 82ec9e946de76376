"""``crossroads cost RECIPE``: the sheet of one recipe, sized for a dataset as ``crossroads train`` would size it."""

from __future__ import annotations

from pathlib import Path

from crossroads.cost.price import Accelerator
from crossroads.cost.recording import recording
from crossroads.cost.sheet import Amount, CostSheet, cost_sheet
from crossroads.data.lerobot import LeRobotDataset
from crossroads.pilot.plan import fit
from crossroads.recipes.catalogue import recipe

BATCH_SIZE = 16
"""What ``crossroads train`` uses when nothing is said."""


def sheet_of(
    name: str,
    size: str | None,
    data: Path | None,
    on: Accelerator,
    *,
    phase: str | None,
    batch_size: int | None,
    amount: Amount,
    text_tokens: int | None,
) -> CostSheet:
    """The sheet of a recipe (nano when no size is given). A published size keeps its sizes whatever the dataset has.

    Raises:
        InputError: an unknown name, a dataset that cannot be read, or options that contradict each other.
    """
    size, found = size or "nano", None
    chosen = recipe(name, size)
    if data is not None:
        dataset = LeRobotDataset.open(data)
        chosen = fit(chosen, dataset.space, dataset.cameras) if size == "nano" else chosen
        found = recording(dataset, chosen, phase)
    return cost_sheet(
        chosen,
        size,
        on,
        phase=phase,
        batch_size=BATCH_SIZE if batch_size is None else batch_size,
        amount=amount,
        dataset=found,
        text_tokens=text_tokens,
    )
