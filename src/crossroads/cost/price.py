"""From training FLOPs to hours to money. Peak rates are data-sheet figures; utilisation and prices are your inputs.

The time of a run is ``flop / (peak * utilisation)``: a throughput convention, honest to about a factor of two
(``ledger`` has the calibration). Where hours were measured, pass the hours and not the FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crossroads.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a device could do, how much of that training gets, and what an hour costs whoever asks."""

    name: str
    peak_flop_per_s: float
    """Dense bfloat16, without sparsity."""
    utilisation: float = 0.30
    price_per_hour: float | None = None
    """In any currency; None where nobody stated it."""
    currency: str = "USD"

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise InputError(
                where=f"device {self.name!r}, utilisation",
                expected="a share above 0 and at most 1",
                got=str(self.utilisation),
                do="0.30 is usual for training large transformers.",
            )
        if self.peak_flop_per_s <= 0 or (self.price_per_hour is not None and self.price_per_hour < 0):
            raise InputError(
                where=f"device {self.name!r}",
                expected="a positive peak rate and a price that is not negative",
                got=f"peak {self.peak_flop_per_s}, price {self.price_per_hour}",
                do="Change these inputs.",
            )


@dataclass(frozen=True, kw_only=True)
class Price:
    """The bill of one run, with the inputs it rests on."""

    device: Device
    flop: float
    device_hours: float
    money: float | None

    def __str__(self) -> str:
        money = "no price stated" if self.money is None else f"{self.money:,.2f} {self.device.currency}"
        return (
            f"{self.flop:.3g} FLOP on {self.device.name} at {self.device.utilisation:.0%} of "
            f"{self.device.peak_flop_per_s / 1e12:,.4g} TFLOP/s: {self.device_hours:,.4g} hours, {money}"
        )


DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device(name="a100", peak_flop_per_s=312e12),  # NVIDIA A100 data sheet
        Device(name="h100", peak_flop_per_s=989.4e12),  # NVIDIA H100 SXM data sheet, without sparsity
        Device(name="h200", peak_flop_per_s=989.4e12),  # NVIDIA H200 SXM data sheet, without sparsity
    )
}


def device(name: str, *, utilisation: float | None = None, price_per_hour: float | None = None) -> Device:
    """A named device with your utilisation and price put in."""
    if name not in DEVICES:
        raise InputError(where="device", expected="a known device", got=repr(name), do=nearest(name, DEVICES))
    known = DEVICES[name]
    return replace(
        known,
        utilisation=known.utilisation if utilisation is None else utilisation,
        price_per_hour=price_per_hour,
    )


def price(flop: float, on: Device) -> Price:
    """Hours and money for that many FLOPs on that device."""
    if not 0 <= flop < float("inf"):
        raise InputError(
            where="price", expected="a number of FLOPs", got=str(flop), do="Give a finite number of at least 0."
        )
    hours = flop / (on.peak_flop_per_s * on.utilisation) / 3600
    money = None if on.price_per_hour is None else hours * on.price_per_hour
    return Price(device=on, flop=flop, device_hours=hours, money=money)
