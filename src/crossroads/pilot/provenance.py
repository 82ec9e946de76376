"""Where a report comes from: command, date, machine, seeds, data, versions and weights."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossroads.data.lerobot import LeRobotDataset
from crossroads.pilot.plan import TRIAL_SEED, fingerprint
from crossroads.pilot.report import Provenance
from crossroads.pilot.run import Run


def provenance(run: Run, dataset: LeRobotDataset, command: str, results: Sequence[dict[str, Any]]) -> Provenance:
    """Everything that the report says of its own origin."""
    wanted = ("crossroads", "torch", "numpy", "mujoco", "scipy")
    versions = {"python": platform.python_version()}
    for name in wanted:
        versions[name] = importlib.metadata.version(name)
    for r in results:
        for name, mark in r["backbones"].items():
            versions[f"weights {name}"] = mark
    plan = json.loads((run.out / "plan.json").read_text())
    scenes = f"{TRIAL_SEED} to {TRIAL_SEED + run.plan.num_trials - 1}" if run.closed_loop else "none"
    return Provenance(
        run_id=fingerprint(plan["fingerprint"], dataset.content_hash()),
        command=command,
        date=datetime.date.today().isoformat(),
        machine=f"{platform.system()} {platform.machine()}, {_processor()}",
        device="; ".join(sorted({r["device"] for r in results})),
        training_seeds=run.plan.seeds,
        scene_seeds=scenes,
        data=plan["data"],
        data_hash=dataset.content_hash()[:16],
        versions=versions,
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
