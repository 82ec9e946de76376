"""Hours and money follow from FLOPs and the stated inputs, and agree with the ledger's constant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroads.cost.ledger import H100_HOURS_PER_ZFLOP
from crossroads.cost.price import Device, device, price
from crossroads.errors import InputError


def test_a_zflop_on_an_h100_takes_the_ledger_s_936_hours() -> None:
    assert price(1e21, device("h100")).device_hours == pytest.approx(H100_HOURS_PER_ZFLOP, rel=5e-4)


@given(st.floats(0, 1e25), st.floats(0.01, 1), st.floats(0, 100))
def test_money_is_proportional_to_work_and_falls_with_utilisation(flop: float, share: float, rate: float) -> None:
    bill = price(flop, device("a100", utilisation=share, price_per_hour=rate))
    full = price(flop, device("a100", utilisation=1.0, price_per_hour=rate))
    assert bill.device_hours == pytest.approx(full.device_hours / share)
    assert bill.money == pytest.approx(bill.device_hours * rate)


def test_without_a_stated_price_there_is_no_bill() -> None:
    bill = price(1e18, device("h200"))
    assert bill.money is None
    assert "no price stated" in str(bill)


def test_nonsense_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'h100'"):
        device("h10")
    with pytest.raises(InputError, match="utilisation"):
        device("h100", utilisation=1.5)
    with pytest.raises(InputError, match="positive peak"):
        Device(name="mine", peak_flop_per_s=0)
    with pytest.raises(InputError, match="finite"):
        price(float("nan"), device("h100"))
