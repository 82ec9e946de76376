"""Datasets and what is made from them: record, convert, check, audit, the shipped backbones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from crossroads.errors import InputError


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
    words: bool = False
    """Also a question about every frame with its answer, and subtasks, from the simulator's state, in LeRobot's
    language columns (lerobot 0.6 and later read them)."""

    def run(self) -> None:
        from tqdm import tqdm

        from crossroads.backbones.clips import clip_of
        from crossroads.backbones.questions import words
        from crossroads.cores import usable_cores
        from crossroads.data.writer import LeRobotWriter
        from crossroads.sim.tabletop.env import CAMERAS, TABLETOP_GEOMETRY, TABLETOP_SPACE
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

        fps = TABLETOP_SPACE.control_hz
        robot = {"fps": fps, "space": TABLETOP_SPACE, "geometry": TABLETOP_GEOMETRY}
        with bar, LeRobotWriter(self.out, cameras=cameras, words=self.words, **robot) as to:
            tally = record_dataset(
                to,
                tables,
                num_episodes=self.episodes,
                num_action_free=self.action_free,
                seed=self.seed,
                num_workers=usable_cores(),
                report=show,
                more=lambda each: {"words": words(clip_of(each), fps=fps, seed=each.seed)} if self.words else {},
            )
        print(f"{self.out}: {self.episodes + self.action_free} episodes; the expert failed {tally.failed} times more")


@dataclass(frozen=True, kw_only=True)
class DataView:
    """Write one HTML page that shows a dataset: episodes, frames, curves, instructions, statistics, findings."""

    folder: Positional[Path]
    out: Path = Path("view.html")
    """The file to write."""
    episodes: int = 24
    """At most this many episodes are shown: some with findings, the others evenly spread."""
    audit: bool = True
    """Search for faults as `crossroads audit` does, which decodes every frame once."""
    quiet: bool = False
    """No progress bar."""

    def run(self) -> None:
        from crossroads.pilot.data_page import write_page

        page = write_page(self.folder, self.out, num_episodes=self.episodes, audit=self.audit, progress=not self.quiet)
        print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True, kw_only=True)
class DataRerun:
    """Write some episodes as a recording for Rerun's viewer: pictures, actions, state and words on one time line."""

    folder: Positional[str]
    """Or a URL (s3://, https://, hf://datasets/), or OWNER/NAME of the hub."""
    out: Path = Path("view.rrd")
    """The file to write."""
    episodes: tuple[int, ...] = ()
    """The episodes to take; the first eight when not given."""

    def run(self) -> None:
        from crossroads.data.lerobot import LeRobotDataset
        from crossroads.data.rerun_export import export

        dataset = LeRobotDataset.open(self.folder)
        chosen = self.episodes or tuple(range(min(8, len(dataset.episodes))))
        made = export(dataset, self.out, chosen)
        many = "s" * (len(chosen) != 1)
        print(f"{made}: {len(chosen)} episode{many}, {made.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Look at every file of a dataset and say what is wrong with it; exit status 2 when something is."""

    folder: Positional[str]
    """Or a URL (s3://, https://, hf://datasets/), or OWNER/NAME of the hub."""
    every_frame: bool = False
    """Decode every picture, which also finds damage in the middle of a file."""

    def run(self) -> int:
        from crossroads.data.check import check

        report = check(self.folder, every_frame=self.every_frame)
        print(report)
        return 0 if report.sound else 2


@dataclass(frozen=True, kw_only=True)
class DataConvert:
    """Turn demonstrations of another format into a LeRobot v3.0 dataset, verified; the same command again resumes.

    Read are LeRobot v2.0 and v2.1 (also GR00T's), robomimic and LIBERO HDF5, Zarr replay buffers, and RLDS.
    """

    source: Positional[Path]
    target: Positional[Path]
    """The folder to write; it must not exist."""
    from_: Annotated[str | None, arg(name="from")] = None
    """lerobot, hdf5, zarr or rlds; found out from the content when not given."""
    fps: float | None = None
    """Frames per second, where the source does not say."""
    robot: str = ""
    """The robot's name, where the source does not say."""
    text: str = ""
    """The instruction of every episode, in place of what the source says."""
    state: tuple[str, ...] = ()
    """Arrays that make up the state, in their order, where the usual ones are not there."""
    action: tuple[str, ...] = ()
    """Arrays that make up the action."""
    cameras: tuple[str, ...] = ()
    """The cameras to take; all when not given."""
    leave_out: tuple[int, ...] = ()
    """Episodes to leave out, by their number in the source."""
    lossless: bool = False
    """Encode pictures so that every bit comes back; the files become several times larger."""
    rotate_180: bool = False
    """Turn the pictures: LIBERO's HDF5 files hold them upside down, and openpi and OpenVLA train on turned ones."""
    quiet: bool = False
    """No progress bar."""

    def run(self) -> None:
        from crossroads.data.convert import convert
        from crossroads.data.formats.source import Wanted

        wanted = Wanted(
            fps=self.fps,
            robot=self.robot,
            text=self.text,
            state=self.state,
            action=self.action,
            cameras=self.cameras,
        )
        done = convert(
            self.source,
            self.target,
            wanted=wanted,
            format=self.from_,
            lossless=self.lossless,
            turned=self.rotate_180,
            leave_out=self.leave_out,
            progress=not self.quiet,
        )
        print(done)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a dataset will do to a policy: faults with episodes and frames, and indicators, before any training.

    Findings are reported, not judged: the exit status is 0 with findings as without.
    """

    data: Path | None = None
    """A LeRobot dataset folder (v3.0, v2.1, v2.0)."""
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
    """Record, convert, check or view datasets."""

    command: (
        Annotated[DataRecord, subcommand("record")]
        | Annotated[DataConvert, subcommand("convert")]
        | Annotated[DataCheck, subcommand("check")]
        | Annotated[DataView, subcommand("view")]
        | Annotated[DataRerun, subcommand("rerun")]
    )

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
