"""What this process may compute on: how many cores, and whether a GPU."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def training_device() -> str:
    """``cuda`` where this process sees a GPU (a Ray worker without a reservation sees none), else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """A device as a report names it."""
    import torch

    return torch.cuda.get_device_name(device) if device == "cuda" else "cpu, one thread per cell"
