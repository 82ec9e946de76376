"""From training FLOPs to hours, energy and money. What a device can do is its data sheet's; how much of it a run gets,
and what an hour costs, are your inputs.

The time of a run is ``flop / (peak * utilisation)``: a throughput convention, honest to about a factor of two
(``ledger`` has the calibration). Energy is hours times thermal design power times the share of it that is drawn; the
whole of it (the default) is the convention of Luccioni et al. 2022, arXiv 2211.02001, for the accelerators alone,
without hosts, network and cooling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crossroads.errors import InputError, nearest


@dataclass(frozen=True, kw_only=True)
class Device:
    """How fast a device could be, how much of that training gets, and what an hour costs whoever asks."""

    name: str
    peak_flop_per_s: float
    """Dense bfloat16, without sparsity."""
    utilisation: float = 0.30
    price_per_hour: float | None = None
    """In any currency; None where nobody stated it."""
    currency: str = "USD"

    def __post_init__(self) -> None:
        _check_share(f"device {self.name!r}, utilisation", self.utilisation, "0.30 is usual for large transformers.")
        if self.peak_flop_per_s <= 0 or (self.price_per_hour is not None and self.price_per_hour < 0):
            raise InputError(
                where=f"device {self.name!r}",
                expected="a positive peak rate and a price that is not negative",
                got=f"peak {self.peak_flop_per_s}, price {self.price_per_hour}",
                do="Change these inputs.",
            )


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A device with the rest of its data sheet."""

    device: Device
    bytes_per_s: float
    """Peak bandwidth of its memory."""
    memory_bytes: float
    tdp_w: float
    """Thermal design power of the accelerator alone."""
    source: str
    power_share: float = 1.0
    """Share of the thermal design power that is drawn while it trains."""

    def __post_init__(self) -> None:
        where = f"accelerator {self.device.name!r}"
        _check_share(f"{where}, power share", self.power_share, "1 is the whole design power, an upper bound.")
        if min(self.bytes_per_s, self.memory_bytes, self.tdp_w) <= 0:
            raise InputError(
                where=where,
                expected="a positive bandwidth, memory and power",
                got=f"{self.bytes_per_s}, {self.memory_bytes}, {self.tdp_w}",
                do="Change these inputs.",
            )

    @property
    def name(self) -> str:
        return self.device.name


def _check_share(where: str, share: float, do: str) -> None:
    if not 0 < share <= 1:
        raise InputError(where=where, expected="a share above 0 and at most 1", got=str(share), do=do)


@dataclass(frozen=True, kw_only=True)
class Price:
    """The bill of one run, with the inputs it rests on."""

    on: Accelerator
    flop: float
    device_hours: float
    kwh: float
    money: float | None

    def __str__(self) -> str:
        device = self.on.device
        money = "no price stated" if self.money is None else f"{self.money:,.2f} at {device.price_per_hour:g} an hour"
        return (
            f"{self.flop:.3g} FLOP on {device.name} at {device.utilisation:.0%} of "
            f"{device.peak_flop_per_s / 1e12:,.4g} TFLOP/s: {self.device_hours:,.4g} hours, "
            f"{self.kwh:,.4g} kWh at {self.on.power_share:.0%} of {self.on.tdp_w:g} W, {money}"
        )


ACCELERATORS: Mapping[str, Accelerator] = {
    found.name: found
    for found in (
        Accelerator(
            device=Device(name="a100", peak_flop_per_s=312e12),
            bytes_per_s=2.039e12,
            memory_bytes=80e9,
            tdp_w=400,
            source="NVIDIA A100 data sheet, SXM 80 GB",
        ),
        Accelerator(
            device=Device(name="h100", peak_flop_per_s=989.4e12),
            bytes_per_s=3.35e12,
            memory_bytes=80e9,
            tdp_w=700,
            source="NVIDIA H100 data sheet and architecture paper, SXM5",
        ),
        Accelerator(
            device=Device(name="h200", peak_flop_per_s=989.4e12),
            bytes_per_s=4.8e12,
            memory_bytes=141e9,
            tdp_w=700,
            source="NVIDIA H200 data sheet, SXM",
        ),
    )
}
"""Dense bfloat16 rates: the data sheets' figures without sparsity."""


def accelerator(
    name: str,
    *,
    utilisation: float | None = None,
    power_share: float | None = None,
    price_per_hour: float | None = None,
) -> Accelerator:
    """A named accelerator with your utilisation, power share and price put in."""
    if name not in ACCELERATORS:
        raise InputError(where="hardware", expected="a known device", got=repr(name), do=nearest(name, ACCELERATORS))
    known = ACCELERATORS[name]
    share = known.device.utilisation if utilisation is None else utilisation
    return replace(
        known,
        device=replace(known.device, utilisation=share, price_per_hour=price_per_hour),
        power_share=known.power_share if power_share is None else power_share,
    )


def price(flop: float, on: Accelerator) -> Price:
    """Hours, energy and money for that many FLOPs."""
    if not 0 <= flop < float("inf"):
        raise InputError(
            where="price", expected="a number of FLOPs", got=str(flop), do="Give a finite number of at least 0."
        )
    device = on.device
    hours = flop / (device.peak_flop_per_s * device.utilisation) / 3600
    return Price(
        on=on,
        flop=flop,
        device_hours=hours,
        kwh=hours * on.tdp_w * on.power_share / 1000,
        money=None if device.price_per_hour is None else hours * device.price_per_hour,
    )
