"""The cost sheet: its figures are those that are counted elsewhere, its bill follows from stated inputs alone."""

from __future__ import annotations

import json

import pytest

from crossroads.cost.flops import flops, parameters
from crossroads.cost.price import accelerator
from crossroads.cost.recording import Recording
from crossroads.cost.sheet import Amount, CostSheet, cost_sheet
from crossroads.cost.sheet_text import sheet_text
from crossroads.cost.show import amount, show
from crossroads.errors import InputError
from crossroads.recipes.catalogue import RECIPES, recipe, sizes

EVERY = [(name, size) for name in sorted(RECIPES) for size in sizes(name)]
TOY = Recording(path="toy", episodes=3, frames=90, samples=60, words=5, text_tokens={"text": 7})


def sheet_of(
    name: str,
    size: str = "nano",
    *,
    phase: str | None = None,
    batch_size: int = 16,
    amount: Amount | None = None,
    dataset: Recording | None = None,
    text_tokens: int | None = None,
    price_per_hour: float | None = None,
    utilisation: float | None = None,
) -> CostSheet:
    return cost_sheet(
        recipe(name, size),
        size,
        accelerator("h100", utilisation=utilisation, price_per_hour=price_per_hour),
        phase=phase,
        batch_size=batch_size,
        amount=amount or Amount(),
        dataset=dataset,
        text_tokens=text_tokens,
    )


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_flops_and_parameters_are_those_that_show_counts(name: str, size: str) -> None:
    chosen, sheet = recipe(name, size), sheet_of(name, size)
    assert (sheet.flops, sheet.parameters) == (flops(chosen), parameters(chosen))
    plain, phase = sheet.plain(), chosen.phases[0].name
    assert plain["training"]["flop_per_sample"] == flops(chosen).train[phase].total
    assert plain["acting"]["flop_per_chunk"] == flops(chosen).act.total - flops(chosen).act.decode
    text = show(chosen)
    assert amount(plain["parameters"]["total"]) in text
    assert amount(plain["training"]["flop_per_sample"]) in text


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_every_sheet_has_its_text_and_its_json(name: str, size: str) -> None:
    sheet = sheet_of(name, size, amount=Amount(steps=10))
    assert json.loads(json.dumps(sheet.plain()))["recipe"] == name
    text = sheet_text(sheet)
    for words in ("FLOPs of one sample", "moments", "latency floor", "data sheet", "no price stated", "30%", "100%"):
        assert words in text


def test_a_run_costs_its_samples_times_one_and_hours_energy_and_money_follow() -> None:
    one = sheet_of("pi0", "published", amount=Amount(samples=1_000), price_per_hour=2.0)
    two = sheet_of("pi0", "published", amount=Amount(samples=2_000), price_per_hour=2.0, utilisation=0.15)
    assert one.training is not None
    assert two.training is not None
    first, second = one.training.bill, two.training.bill
    assert first.flop == 1_000 * one.flops.train["full"].total
    assert first.money is not None
    assert second.money is not None
    assert second.device_hours == pytest.approx(4 * first.device_hours)
    assert second.kwh == pytest.approx(4 * first.kwh)
    assert second.money == pytest.approx(4 * first.money)
    assert first.money == pytest.approx(2.0 * first.device_hours)
    assert first.kwh == pytest.approx(0.7 * first.device_hours)


def test_steps_samples_and_epochs_say_the_same_in_their_own_units() -> None:
    steps = sheet_of("pi0", amount=Amount(steps=15), batch_size=8, dataset=TOY).training
    samples = sheet_of("pi0", amount=Amount(samples=120), batch_size=8, dataset=TOY).training
    epochs = sheet_of("pi0", amount=Amount(epochs=2), batch_size=8, dataset=TOY).training
    assert steps is not None
    assert samples is not None
    assert epochs is not None
    assert steps.samples == samples.samples == epochs.samples == 120
    assert steps.steps == samples.steps == epochs.steps == 15
    assert steps.bill == samples.bill == epochs.bill


def test_a_dataset_alone_means_one_epoch_and_nothing_means_costs_of_a_sample() -> None:
    epoch = sheet_of("pi0", dataset=TOY).training
    assert epoch is not None
    assert epoch.samples == TOY.samples
    alone = sheet_of("pi0")
    assert alone.training is None
    assert "state --steps or --samples, or give --data" in sheet_text(alone)


def test_no_price_means_no_money_and_a_batch_changes_memory_and_not_work() -> None:
    small, large = (sheet_of("pi0", amount=Amount(samples=64), batch_size=size) for size in (4, 8))
    assert small.training is not None
    assert large.training is not None
    assert small.training.bill == large.training.bill
    assert small.training.bill.money is None
    assert small.training_memory.activations * 2 == large.training_memory.activations


def test_the_length_of_the_text_comes_from_the_dataset_or_from_the_option() -> None:
    assert sheet_of("pi0").tokens["text"] == 48
    assert sheet_of("pi0", dataset=TOY).tokens["text"] == 7
    assert sheet_of("pi0", dataset=TOY, text_tokens=9).tokens["text"] == 9
    assert sheet_of("pi0", text_tokens=9).act_flop < sheet_of("pi0").act_flop
    large = sheet_of(
        "pi0", "published", dataset=Recording(path="toy", episodes=1, frames=9, samples=9, words=5, text_tokens={})
    )
    assert large.tokens["text"] == 48
    assert "the tokeniser is not loaded here" in large.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amount": Amount(steps=3, samples=4)}, "--steps 3 and --samples 4"),
        ({"amount": Amount(epochs=2)}, "a dataset to go through, got no --data"),
        ({"amount": Amount(steps=0)}, "--steps: expected more than 0"),
        ({"amount": Amount(epochs=float("inf")), "dataset": TOY}, "--epochs: expected more than 0"),
        ({"batch_size": 0}, "at least 1"),
        ({"text_tokens": 49}, "1 to 48 tokens, got 49"),
        ({"phase": "heads"}, "Did you mean 'head'"),
    ],
)
def test_options_that_contradict_each_other_or_the_recipe_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sheet_of("pi0", **changes)


def test_a_recipe_whose_text_has_one_length_takes_no_other() -> None:
    with pytest.raises(InputError, match="always read to its full length"):
        sheet_of("fast_wam", "published", text_tokens=20)
