"""``crossroads``: one small class per command. Everything heavy is imported inside a command, so ``--help`` is quick.

What a person wrote wrongly ends with one message on standard error and exit status 2; Ctrl-C with status 130.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, subcommand

from crossroads.errors import InputError, nearest


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
class Train:
    """Train one recipe on one dataset; the same command again continues, or returns at once when all is done."""

    recipe: Positional[str]
    data: Path
    """A LeRobot v3 dataset folder."""
    out: Path
    """The folder of this run."""
    phase: Literal["head", "full"] = "head"
    """head: frozen backbone and cached features; full: everything is fine-tuned."""
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    quiet: bool = False
    """No progress bar."""

    def run(self) -> None:
        from crossroads.pilot.single import Training, train_recipe
        from crossroads.train.log import short

        settings = Training(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            phase=self.phase,
        )
        result = train_recipe(self.recipe, self.data, self.out, settings, progress=not self.quiet)
        print(f"{self.recipe}: {result.steps} steps in {result.seconds:.1f} s, {short(result.final_losses)}")
        print(self.out / "policy")


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Run policies in closed loop on the same scenes: success, grounding, latency, paired tests, and films.

    A server that wants an API key gets the one in the environment variable CROSSROADS_API_KEY.
    """

    arm: tyro.conf.UseAppendAction[tuple[str, ...]]
    """Repeat for each policy: what `crossroads train` wrote, a cell of a pilot, or ws://host:port of a server that
    speaks openpi's WebSocket protocol. The others are compared with the first."""
    env: Literal["tabletop"]
    out: Path
    """The folder of the results; the same command again continues in it."""
    families: tuple[str, ...] = ("reach", "press", "push")
    trials: int = 100
    """Usual trials; the scenes are the same for every policy."""
    swapped: int = 50
    """Of these scenes, how many are run again told another of their instructions."""
    execute_steps: int = 6
    """Steps of each chunk that are executed before the next is asked for."""
    videos: int = 4
    """Rollouts of each policy to keep as mp4 files."""
    until_settled: bool = False
    """End as soon as it is settled, for every other policy, whether it is better or worse than the first or equal."""
    margin: float = 0.1
    """With --until-settled: the smallest difference of success that matters to you."""
    remote_keys: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """TOML file: which camera and which numbers a server wants under which names; repeat for each server in order."""
    timeout_s: float = 120.0
    """Longest wait for one answer of a server; the first may take long, while it compiles."""
    quiet: bool = False
    """No progress bar."""

    def run(self) -> None:
        from tqdm import tqdm

        from crossroads.evaluate.versus import Stopping
        from crossroads.pilot.arena import Settings, evaluate_arms
        from crossroads.pilot.arms import Wire, open_arms
        from crossroads.pilot.scoreboard import summary
        from crossroads.sim.tabletop.tasks import check_families

        check_families(self.families)
        settings = Settings(
            families=self.families,
            num_trials=self.trials,
            num_swapped=self.swapped,
            execute_steps=self.execute_steps,
            num_videos=self.videos,
            stopping=Stopping(margin=self.margin) if self.until_settled else None,
        )
        wire = Wire(
            keys=self.remote_keys, timeout_s=self.timeout_s, api_key=os.environ.get("CROSSROADS_API_KEY") or None
        )
        most = len(self.arm) * (self.trials + min(self.swapped, self.trials))
        with (
            open_arms(self.arm, wire) as arms,
            tqdm(total=most, desc="evaluate", unit="episode", disable=self.quiet) as bar,
        ):
            found = evaluate_arms(arms, settings, self.out, bar.update)
        print(summary(found))
        print(self.out / "evaluation.json")


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The matched comparison: train and measure every arm, then write report.html and report.json."""

    profile: str = "laptop"
    """smoke, laptop or gpu."""
    out: Path = Path("runs/pilot")
    """The folder of this pilot; the same command again continues in it."""
    data: Path | None = None
    """A LeRobot v3 dataset instead of the embedded tabletop: the offline layer only, no closed loop."""
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
        from crossroads.pilot.plan import profile
        from crossroads.pilot.report import write_report
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
            print(show(plan_on(self.data, plan, budget) if self.data else plan_without_data(plan, budget)))
            return
        executor = choose_executor(
            jobs=self.jobs, ray=self.ray, cpus_per_cell=self.cpus_per_cell, gpus_per_cell=self.gpus_per_cell
        )
        prepared = prepare(self.out, plan, self.data, budget)
        results = run_pilot(prepared, executor=executor)
        report = assemble(prepared, results, command=f"crossroads {' '.join(sys.argv[1:])}")
        print(write_report(report, self.out))


@dataclass(frozen=True, kw_only=True)
class Study:
    """One of three matched experiments: label efficiency, video loss against imagination, grounding."""

    design: Positional[Literal["labels", "video-loss", "grounding"]]
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
        from crossroads.pilot.budget import show, this_processor
        from crossroads.pilot.design import design_of
        from crossroads.pilot.run import choose_executor
        from crossroads.pilot.study_found import as_text
        from crossroads.pilot.study_run import plan_of, prepare_study, run_study, write_study

        design, device = design_of(self.design, self.profile), this_processor()
        print(show(plan_of(design, device)), file=sys.stdout if self.plan else sys.stderr)
        if self.plan:
            return
        executor = choose_executor(jobs=self.jobs, ray=self.ray, cpus_per_cell=None, gpus_per_cell=None)
        out = self.out or Path("runs/study") / self.design
        prepared = prepare_study(out, design, num_workers=usable_cores())
        print(as_text(write_study(prepared, run_study(prepared, executor=executor), device)))


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """Record expert demonstrations of an embedded world as a LeRobot v3 dataset."""

    world: Positional[Literal["tabletop"]]
    out: Path
    """The folder to write; it must not exist."""
    episodes: int = 200
    """Labelled demonstrations."""
    action_free: int = 0
    """Further episodes of which only video and text are kept."""
    seed: int = 0
    families: tuple[str, ...] = ()
    """Task families; all of them when not given."""
    image_size: int = 64
    """Pixels of a side of each camera's picture."""
    split: Literal["train", "held_out", "all"] = "train"
    """held_out: only compositions of words that `train` never names."""
    paraphrase: bool = False
    """Vary the wording of the instructions."""

    def run(self) -> None:
        from tqdm import tqdm

        from crossroads.cores import usable_cores
        from crossroads.data.writer import LeRobotWriter
        from crossroads.sim.tabletop.env import CAMERAS, TABLETOP_SPACE
        from crossroads.sim.tabletop.record import record_dataset
        from crossroads.sim.tabletop.tasks import ALL_FAMILIES
        from crossroads.sim.tabletop.vector import Options

        image_hw = (self.image_size, self.image_size)
        cameras: dict[str, tuple[int, int]] = dict.fromkeys(CAMERAS, image_hw)
        tables = Options(
            families=self.families or ALL_FAMILIES, image_hw=image_hw, split=self.split, paraphrase=self.paraphrase
        )
        bar = tqdm(total=self.episodes + self.action_free, desc="record", unit="episode")

        def show(num_done: int) -> None:
            bar.update(num_done - bar.n)

        with bar, LeRobotWriter(self.out, fps=TABLETOP_SPACE.control_hz, cameras=cameras, space=TABLETOP_SPACE) as to:
            tally = record_dataset(
                to,
                tables,
                num_episodes=self.episodes,
                num_action_free=self.action_free,
                seed=self.seed,
                num_workers=usable_cores(),
                report=show,
            )
        print(f"{self.out}: {self.episodes + self.action_free} episodes; the expert failed {tally.failed} times more")


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Look at every file of a dataset and say what is wrong with it; exit status 2 when something is."""

    folder: Positional[Path]

    def run(self) -> int:
        from crossroads.data.check import check

        report = check(self.folder)
        print(report)
        return 0 if report.sound else 2


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a dataset will do to a policy: faults with episodes and frames, and indicators, before any training.

    Findings are reported, not judged: the exit status is 0 with findings as without.
    """

    data: Path | None = None
    """A LeRobot v3 dataset folder."""
    json: Path | None = None
    """A file to write all of it to as well: every episode and frame of every finding."""
    pilots: tuple[Path, ...] = ()
    """Folders with report.json files of pilots: how well did the predictability gap tell who won?"""
    quiet: bool = False
    """No progress bar."""

    def run(self) -> None:
        import json

        if self.data is None and not self.pilots:
            do = "Give --data DIR to audit a dataset, or --pilots DIR for the gap over finished pilots."
            raise InputError(where="crossroads audit", expected="--data or --pilots", got="neither", do=do)
        if self.json is not None and self.data is None:
            raise InputError(
                where="crossroads audit", expected="--data beside --json", got="none", do="Name a dataset."
            )
        if self.json is not None and not self.json.parent.is_dir():
            got = f"no folder {self.json.parent}"
            raise InputError(where=f"--json {self.json}", expected="an existing folder", got=got, do="Make it first.")
        if self.data is not None:
            from crossroads.data.audit import audit

            found = audit(self.data, progress=not self.quiet)
            print(found)
            if self.json is not None:
                self.json.write_text(
                    json.dumps(found.to_plain(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
                )
        if self.pilots:
            from crossroads.pilot.gaps import gap_table, read_outcomes

            print(gap_table(read_outcomes(self.pilots)))


@dataclass(frozen=True, kw_only=True)
class Data:
    """Record or check datasets."""

    command: Annotated[DataRecord, subcommand("record")] | Annotated[DataCheck, subcommand("check")]

    def run(self) -> int | None:
        return self.command.run()


@dataclass(frozen=True, kw_only=True)
class Backbones:
    """Rebuild the two nano backbones from nothing; hours on a CPU, minutes on a GPU."""

    out: Path = Path("runs/backbones")
    """The folder of the work; the same command again continues in it."""
    device: str = "cpu"

    def run(self) -> None:
        from crossroads.backbones.make import make_backbones

        print(make_backbones(self.out, device=self.device))


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


COMMANDS: Mapping[str, type] = {
    "recipes": Recipes,
    "show": Show,
    "diff": Diff,
    "train": Train,
    "eval": Eval,
    "pilot": Pilot,
    "study": Study,
    "data": Data,
    "audit": Audit,
    "backbones": Backbones,
    "cost": Cost,
}
DATA_COMMANDS: Mapping[str, type] = {"record": DataRecord, "check": DataCheck}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (arguments that cannot be read leave by SystemExit, status 2)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _check_spelling(arguments)
        command = tyro.extras.subcommand_cli_from_dict(
            dict(COMMANDS),
            args=arguments,
            prog="crossroads",
            description="VLA or WAM? A matched comparison of robot policies on your own data.",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        status = command.run() or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (`head`, say) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if not extra:
            raise
        print(
            f"crossroads: this command needs the package {error.name!r}. Run: pip install 'crossroads[{extra}]'",
            file=sys.stderr,
        )
        return 2


def _check_spelling(arguments: Sequence[str]) -> None:
    """Suggest the nearest name for a misspelt command or option, which tyro does not always do."""
    known, where = dict(COMMANDS), "crossroads"
    words = [*arguments]
    while known and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in known:
            raise InputError(where=where, expected="a command", got=repr(name), do=nearest(name, known))
        chosen, where = known[name], f"{where} {name}"
        if chosen is Data:
            known = dict(DATA_COMMANDS)
            continue
        options = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(chosen)}
        options |= {f"--no-{option[2:]}" for option in options} | {"--help"}
        for word in words:
            option = word.split("=")[0].replace("_", "-")
            if word.startswith("--") and option not in options:
                shown = [option for option in options if not option.startswith("--no-")]
                raise InputError(where=where, expected="an option", got=repr(word), do=nearest(option, shown))
        return


def _extra_of(package: str) -> str:
    """The optional extra that brings a package; empty for what no extra brings."""
    extras = {
        "data": ("pyarrow", "av", "PIL"),
        "sim": ("mujoco", "gymnasium"),
        "report": ("jinja2", "matplotlib", "scipy", "markupsafe"),
        "serve": ("websockets", "msgpack"),
        "ray": ("ray",),
    }
    return next((extra for extra, packages in extras.items() if package.split(".")[0] in packages), "")


if __name__ == "__main__":
    sys.exit(main())
