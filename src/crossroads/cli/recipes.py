"""Look at recipes without running them: list, show, compare, cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes: name, the three axes, paper."""

    def run(self) -> None:
        from crossroads.recipes.catalogue import RECIPES

        for name, make in RECIPES.items():
            recipe = make()
            axes = recipe.axes
            print(f"{name:16} {axes.paradigm:20} {axes.architecture:24} {axes.integration:8} {recipe.paper}")


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show one recipe: who reads whom, the axes, sizes and cost, and where it departs from its paper."""

    recipe: Positional[str]
    size: str = "nano"
    """nano, or published where the recipe has a published size."""

    def run(self) -> None:
        from crossroads.cost.show import show
        from crossroads.recipes.catalogue import recipe

        print(show(recipe(self.recipe, self.size)))


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Print exactly what differs between two recipes."""

    first: Positional[str]
    second: Positional[str]
    size: str = "nano"
    """nano, or published where both recipes have a published size."""

    def run(self) -> None:
        from crossroads.recipe import diff
        from crossroads.recipes.catalogue import recipe

        print(diff(recipe(self.first, self.size), recipe(self.second, self.size)))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a recipe costs to train and to run, or what published systems cost to train (--ledger, --ratio)."""

    recipe: Positional[str | None] = None
    ledger: bool = False
    """Print the published training-cost table: every row with its formula, its inputs and its basis."""
    ratio: tuple[str, str] | None = None
    """Two rows of the ledger: how many times dearer the first is."""
    across_bases: bool = False
    """Divide even rows that were not estimated in the same way."""
    flop: float | None = None
    """Price a number of training FLOPs."""
    size: str | None = None
    """nano (when not given), or published where the recipe has a published size."""
    phase: str | None = None
    """The phase of training; the recipe's first when not given."""
    data: Path | None = None
    """A LeRobot v3 dataset folder: samples of an epoch and length of the instructions."""
    batch_size: int | None = None
    """16 when not given."""
    steps: int | None = None
    samples: int | None = None
    epochs: float | None = None
    """Of these three give one; one epoch of --data when none is given."""
    text_tokens: int | None = None
    """How long the instruction is, where you know better than the most that is read."""
    hardware: str | None = None
    """a100, h100 (when not given) or h200."""
    utilisation: float | None = None
    """Share of the dense bfloat16 peak that training gets; 0.30 when not given."""
    power_share: float | None = None
    """Share of the thermal design power that is drawn meanwhile; 1 when not given."""
    price_per_hour: float | None = None
    """Of one device, in your currency; nothing is assumed."""
    json: Path | None = None
    """Write the answer to this file as well, as JSON."""

    def run(self) -> None:
        from crossroads.cost.asked import question, write_answer
        from crossroads.cost.ledger import compare, plain, row, table
        from crossroads.cost.price import accelerator, price
        from crossroads.cost.sheet import Amount
        from crossroads.cost.sheet_text import sheet_text
        from crossroads.pilot.costing import sheet_of

        found = question(vars(self))
        on = accelerator(
            self.hardware or "h100",
            utilisation=self.utilisation,
            power_share=self.power_share,
            price_per_hour=self.price_per_hour,
        )
        if found == "ledger":
            said, values = table(), plain()
        elif self.ratio is not None:
            answer = compare(row(self.ratio[0]), row(self.ratio[1]), across_bases=self.across_bases)
            said, values = str(answer), answer.plain()
        elif self.flop is not None:
            bill = price(self.flop, on)
            said, values = str(bill), dataclasses.asdict(bill)
        else:
            sheet = sheet_of(
                self.recipe or "",
                self.size,
                self.data,
                on,
                phase=self.phase,
                batch_size=self.batch_size,
                amount=Amount(steps=self.steps, samples=self.samples, epochs=self.epochs),
                text_tokens=self.text_tokens,
            )
            said, values = sheet_text(sheet), sheet.plain()
        if self.json is not None:
            write_answer(self.json, values)
        print(said)


@dataclass(frozen=True, kw_only=True)
class Import:
    """Read a published release into its recipe, weight by weight, and keep it under our names."""

    recipe: Positional[str]
    from_: Annotated[str, arg(name="from")]
    """A folder of safetensors files, or a repository of the model hub (owner/name)."""
    out: Path
    """A new folder."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def run(self) -> None:
        import torch

        from crossroads.recipes.transfer import import_release, official

        released = official(self.recipe)
        net = import_release(released, self.from_, self.out, dtype=getattr(torch, self.dtype))
        num = sum(parameter.numel() for parameter in net.parameters())
        print(f"{self.recipe}: {len(released.names)} weights, {num:,} numbers, every one accounted for\n{self.out}")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write an imported folder back as it was published."""

    folder: Positional[Path]
    """What `crossroads import` wrote."""
    to: Path
    """The folder of the release."""

    def run(self) -> None:
        from crossroads.recipes.transfer import export_release, official, sidecar

        for path in export_release(official(sidecar(self.folder)["recipe"]), self.folder, self.to):
            print(path)
