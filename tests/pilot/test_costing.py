"""``crossroads cost RECIPE`` on a dataset: nano recipes are sized for it, published ones stay what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import episodes, write

from crossroads.cost.price import ACCELERATORS
from crossroads.cost.sheet import Amount, CostSheet
from crossroads.errors import InputError
from crossroads.pilot.costing import sheet_of


def sheet(size: str | None, data: Path | None) -> CostSheet:
    return sheet_of(
        "pi0",
        size,
        data,
        ACCELERATORS["h100"],
        phase=None,
        batch_size=None,
        amount=Amount(),
        text_tokens=None,
    )


def test_a_nano_recipe_is_sized_for_the_robot_and_a_published_one_is_not(tmp_path: Path) -> None:
    folder = write(tmp_path / "toy", episodes(4))
    small, large = sheet(None, folder), sheet("published", folder)
    assert (small.size, small.recipe.window.action_size, small.recipe.window.cameras) == ("nano", 2, ("front",))
    assert large.recipe.window.action_size == 32
    assert small.training is not None
    assert large.training is not None
    assert large.training.bill.flop > 1000 * small.training.bill.flop
    assert sheet(None, None).training is None


def test_a_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        sheet(None, tmp_path / "nowhere")
