"""The matched comparison and the three matched experiments."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The matched comparison: train and measure every arm, then write report.html and report.json."""

    profile: str = "laptop"
    """smoke, laptop or gpu."""
    out: Path = Path("runs/pilot")
    """The folder of this pilot; the same command again continues in it."""
    data: Path | None = None
    """A LeRobot v3 dataset instead of the embedded tabletop: the offline layer only, no closed loop."""
    skip_faulty: bool = False
    """With --data: leave out the episodes with findings (`crossroads data check`) instead of refusing the dataset."""
    jobs: int | None = None
    """Cells at once on this machine, each with one thread; one per core when not given."""
    ray: str | None = None
    """Run the cells on a Ray cluster instead: HOST:PORT of its head. All nodes must share the folder `--out`."""
    cpus_per_cell: int | None = None
    """With --ray: the cores that Ray reserves for a cell, which still computes with one thread; 1 when not given."""
    gpus_per_cell: float | None = None
    """With --ray: the GPUs that Ray reserves for a cell and shows to it, or a share of one; 0 when not given."""
    plan: bool = False
    """Print what every arm would spend, in every currency, and do nothing."""
    budget_samples: float | None = None
    """Training samples per arm, over all its cells; like each budget it sets the steps and must then match."""
    budget_steps: float | None = None
    """Optimiser steps per arm."""
    budget_flops: float | None = None
    """Training FLOPs per arm."""
    budget_seconds: float | None = None
    """Seconds of training per arm, one process."""
    budget_device_hours: float | None = None
    """Device-hours per arm."""
    budget_money: float | None = None
    """Money per arm; needs --price-per-hour."""
    price_per_hour: float | None = None
    """Of the training device, in US dollars; nothing is assumed."""
    match: tuple[Literal["samples", "steps", "flops", "seconds", "device_hours", "money", "parameters"], ...] = ()
    """What arms must be equal in, within 5 %: what is budgeted, or samples, steps and parameters."""

    def run(self) -> None:
        from crossroads.pilot.assemble import assemble
        from crossroads.pilot.budget import Budget, show
        from crossroads.pilot.page import write_report
        from crossroads.pilot.plan import profile
        from crossroads.pilot.run import choose_executor, plan_on, plan_without_data, prepare
        from crossroads.pilot.whole import run_pilot

        plan = profile(self.profile)
        budget = Budget(
            samples=self.budget_samples,
            steps=self.budget_steps,
            flops=self.budget_flops,
            seconds=self.budget_seconds,
            device_hours=self.budget_device_hours,
            money=self.budget_money,
            price_per_hour=self.price_per_hour,
            match=self.match,
        )
        if self.plan:
            table = plan_on(self.data, plan, budget, skip_faulty=self.skip_faulty) if self.data else None
            print(show(table or plan_without_data(plan, budget)))
            return
        executor = choose_executor(
            jobs=self.jobs, ray=self.ray, cpus_per_cell=self.cpus_per_cell, gpus_per_cell=self.gpus_per_cell
        )
        prepared = prepare(self.out, plan, self.data, budget, skip_faulty=self.skip_faulty)
        results = run_pilot(prepared, executor=executor)
        report = assemble(prepared, results, command=f"crossroads {' '.join(sys.argv[1:])}")
        print(write_report(report, self.out))


@dataclass(frozen=True, kw_only=True)
class Study:
    """One of four matched experiments: label efficiency, video loss against imagination, grounding, forgetting."""

    design: Positional[Literal["labels", "video-loss", "grounding", "forgetting"]]
    profile: str = "laptop"
    """smoke or laptop."""
    out: Path | None = None
    """The folder of this study, runs/study/DESIGN when not given; the same command again continues in it. Inside a
    pilot's folder, as PILOT/studies/DESIGN, its findings join the pilot's report."""
    jobs: int | None = None
    """Cells at once on this machine, each with one thread; one per core when not given."""
    ray: str | None = None
    """Run the cells on a Ray cluster instead: HOST:PORT of its head. All nodes must share the folder `--out`."""
    plan: bool = False
    """Print what a cell of every arm would spend, in every currency, and do nothing."""

    def run(self) -> None:
        from crossroads.cores import usable_cores
        from crossroads.pilot.budget import show, this_device
        from crossroads.pilot.designs import design_of
        from crossroads.pilot.run import choose_executor
        from crossroads.pilot.study_found import as_text
        from crossroads.pilot.study_run import plan_of, prepare_study, run_study

        design, device = design_of(self.design, self.profile), this_device()
        print(show(plan_of(design, device)), file=sys.stdout if self.plan else sys.stderr)
        if self.plan:
            return
        executor = choose_executor(jobs=self.jobs, ray=self.ray, cpus_per_cell=None, gpus_per_cell=None)
        out = self.out or Path("runs/study") / self.design
        prepared = prepare_study(out, design, num_workers=usable_cores())
        print(as_text(run_study(prepared, executor=executor, device=device)))
