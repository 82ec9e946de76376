"""Budgets: what is planned is what would be counted, arms are equal or refused, and one factor scales an arm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroads.cost.flops import flops, parameters
from crossroads.cost.price import Device
from crossroads.errors import InputError
from crossroads.pilot.budget import CURRENCIES, TEXT_TOKENS, Budget, Training, compare, scaled, show, spend
from crossroads.pilot.plan import PROFILES
from crossroads.pilot.run import plan_without_data
from crossroads.recipes.catalogue import recipe

SLOW = Device(name="a slow device", peak_flop_per_s=1e10, utilisation=0.5, price_per_hour=2.0)
FREE = Device(name="a device without a price", peak_flop_per_s=1e10, utilisation=0.5)


def trainings(name: str, *steps: int) -> tuple[Training, ...]:
    return tuple(Training(recipe=recipe(name), phase="head", steps=num, batch_size=8) for num in steps)


def test_an_arm_is_the_sum_of_its_trainings_and_a_network_trained_again_counts_once() -> None:
    found = spend((*trainings("pi0", 10, 30), *trainings("inverse_motion", 5)), SLOW)
    sample = flops(recipe("pi0"), tokens={"text": TEXT_TOKENS}).train_cached["head"].total
    inverse = flops(recipe("inverse_motion")).train_cached["head"].total
    assert found.steps == 45
    assert found.samples == 8 * 45
    assert found.flops == 8 * (40 * sample + 5 * inverse)
    assert found.parameters == sum(parameters(recipe(name)).trained["head"] for name in ("pi0", "inverse_motion"))
    assert found.seconds == pytest.approx(found.flops / 5e9)
    assert found.money == pytest.approx(2 * found.device_hours) == pytest.approx(found.seconds / 1800)


@given(amount=st.floats(1e3, 1e6), currency=st.sampled_from(["samples", "steps", "flops", "seconds", "money"]))
def test_what_is_given_is_spent_and_never_more_than_half_a_step_off(amount: float, currency: str) -> None:
    plan = trainings("pi0", 200, 600)
    unit = getattr(spend(trainings("pi0", 1), SLOW), currency)
    budget = Budget(**{currency: amount * unit})
    spent = getattr(spend(scaled(plan, budget, SLOW, "pi0"), SLOW), currency)
    assert abs(spent - amount * unit) <= unit * len(plan) / 2 * 1.001


def test_of_several_amounts_the_tightest_binds() -> None:
    one = spend(trainings("pi0", 1), SLOW)
    found = scaled(trainings("pi0", 100), Budget(steps=50, flops=20 * one.flops), SLOW, "pi0")
    assert [training.steps for training in found] == [20]


def test_equal_flops_give_the_cheaper_recipe_more_steps() -> None:
    budget = Budget(flops=1e12)
    arms = {name: scaled(trainings(name, 600), budget, SLOW, name) for name in ("pi0", "fast_wam")}
    table = compare({name: spend(found, SLOW) for name, found in arms.items()}, budget, SLOW)
    assert arms["fast_wam"][0].steps > arms["pi0"][0].steps
    assert table.matched == ("flops",)
    assert any(line.startswith("steps") for line in table.unequal)


def test_a_matched_currency_that_differs_by_more_than_the_tolerance_is_refused_with_both_numbers() -> None:
    planned = {"a": spend(trainings("pi0", 100), SLOW), "b": spend(trainings("pi0", 106), SLOW)}
    with pytest.raises(InputError, match=r"b has 106, a 100 \(6% more\)"):
        compare(planned, Budget(match=("steps",)), SLOW)
    compare(planned, Budget(match=("steps",), tolerance=0.07), SLOW)


def test_the_pilots_arms_are_equal_in_samples_steps_and_trained_parameters() -> None:
    planned = {name: spend(trainings(name, 60), SLOW) for name in ("pi0", "fast_wam", "fast_wam_joint", "fast_wam_idm")}
    assert compare(planned, Budget(), SLOW).matched == ("samples", "steps", "parameters")


def test_wrong_budgets_are_refused_when_they_are_made() -> None:
    with pytest.raises(InputError, match="positive amount"):
        Budget(steps=0)
    with pytest.raises(InputError, match="price-per-hour"):
        scaled(trainings("pi0", 10), Budget(money=3), FREE, "pi0")
    with pytest.raises(InputError, match="at least one optimiser step"):
        scaled(trainings("pi0", 1000, 1), Budget(steps=100), FREE, "pi0")


def test_the_plan_names_every_currency_and_where_its_estimates_come_from() -> None:
    text = show(compare({"pi0": spend(trainings("pi0", 60), FREE)}, Budget(), FREE))
    assert all(name.replace("_", " ") in text for name in CURRENCIES)
    assert "no price stated" in text


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_profile_can_be_planned_as_it_is(name: str) -> None:
    table = plan_without_data(PROFILES[name], Budget())
    assert {"samples", "steps"} <= set(table.matched)
    assert ("parameters" in table.matched) == (PROFILES[name].phase == "head")
    if "parameters" not in table.matched:
        assert any(gap.startswith("parameters") for gap in table.unequal)
