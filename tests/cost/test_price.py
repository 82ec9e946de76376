"""Hours, energy and money follow from FLOPs and the stated inputs, and agree with the ledger's constant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossroads.cost.estimates import H100_HOURS_PER_ZFLOP
from crossroads.cost.price import ACCELERATORS, accelerator, price
from crossroads.errors import InputError


def test_a_zflop_on_an_h100_takes_the_ledger_s_936_hours() -> None:
    assert price(1e21, accelerator("h100")).device_hours == pytest.approx(H100_HOURS_PER_ZFLOP, rel=5e-4)


@given(st.floats(0, 1e25), st.floats(0.01, 1), st.floats(0, 100), st.floats(0.01, 1))
def test_energy_and_money_are_proportional_to_hours(flop: float, share: float, rate: float, drawn: float) -> None:
    bill = price(flop, accelerator("a100", utilisation=share, price_per_hour=rate, power_share=drawn))
    full = price(flop, accelerator("a100", utilisation=1.0, price_per_hour=rate))
    assert bill.device_hours == pytest.approx(full.device_hours / share)
    assert bill.money == pytest.approx(bill.device_hours * rate)
    assert bill.kwh == pytest.approx(bill.device_hours * 0.4 * drawn)


def test_without_a_stated_price_there_is_no_bill() -> None:
    bill = price(1e18, accelerator("h200"))
    assert bill.money is None
    assert "no price stated" in str(bill)


def test_every_device_names_its_source_and_newer_ones_are_not_slower() -> None:
    assert all("data sheet" in known.source for known in ACCELERATORS.values())
    old, middle, new = (ACCELERATORS[name] for name in ("a100", "h100", "h200"))
    assert old.device.peak_flop_per_s < middle.device.peak_flop_per_s <= new.device.peak_flop_per_s
    assert old.bytes_per_s < middle.bytes_per_s < new.bytes_per_s


def test_nonsense_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'h100'"):
        accelerator("h10")
    with pytest.raises(InputError, match="utilisation"):
        accelerator("h100", utilisation=1.5)
    with pytest.raises(InputError, match="power share"):
        accelerator("h100", power_share=0.0)
    with pytest.raises(InputError, match="not negative"):
        accelerator("h100", price_per_hour=-1.0)
    with pytest.raises(InputError, match="positive bandwidth"):
        replace(ACCELERATORS["h100"], bytes_per_s=0.0)
    with pytest.raises(InputError, match="finite"):
        price(float("nan"), accelerator("h100"))
