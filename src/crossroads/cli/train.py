"""Train one recipe, and measure trained policies in closed loop."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

from crossroads.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train one recipe on one or several datasets; the same command again continues, or returns at once when all is
    done."""

    recipe: Positional[str]
    data: tyro.conf.UseAppendAction[tuple[str, ...]]
    """A LeRobot dataset folder, a URL of one (s3://, https://), or OWNER/NAME of the hub; repeat for a mixture."""
    out: Path
    """The folder of this run."""
    phase: str | None = None
    """One of the recipe's (`crossroads show`). When not given, head (frozen backbone and cached features) where there
    is one, else the first."""
    steps: int = 2000
    tflop: float | None = None
    """In place of --steps: the work of training in 10^12 FLOPs, by what `crossroads show` counts of a sample, so that
    recipes of different sizes are trained for the same work."""
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    keep_latents: bool = False
    """With --phase full: encode the video of each window once, before training, and keep it in half precision."""
    pictures: Literal["cached", "caching", "pooled"] = "cached"
    """cached: decode every picture once, before the first step, into a file. caching: while the first epoch goes on.
    pooled: no file; whole episodes pass through memory, 16 at a time, whose windows are mixed (phase full)."""
    skip_faulty: bool = False
    """Leave out the episodes with findings (`crossroads data check`) instead of refusing the dataset."""
    questions: Path | None = None
    """A dataset with questions about its pictures (LeRobot's language columns), trained on beside the actions, so that
    the policy keeps what its language model can say; for phases that learn to answer (pi05 and baseline_ki, full)."""
    questions_share: float = 0.2
    """The part of each batch that is questions."""
    start: Path | None = None
    """A run of the same recipe whose weights this one starts from: phases that follow each other, as lapa's."""
    weight: tyro.conf.UseAppendAction[tuple[float, ...]] = ()
    """Of a mixture: how much each sample of a dataset counts; repeat in the order of --data. All 1 when not given."""
    temperature: float = 1.0
    """Of a mixture: shares are (weight * samples) to the power 1 / temperature; the higher, the more equal."""
    slots: Path | None = None
    """Of a mixture: a TOML file that says which cameras and numbers of each robot are the same, and the common rate;
    when not given, those of the same name are."""
    quiet: bool = False
    """No progress bar."""

    def run(self) -> None:
        from crossroads.data.findings import told_of
        from crossroads.pilot.mixed import Blend, train_mixture
        from crossroads.pilot.single import Training, train_recipe
        from crossroads.train.checkpoint import read_meta
        from crossroads.train.log import short

        settings = Training(
            steps=self.steps,
            tflop=self.tflop,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            phase=self.phase,
            keep_latents=self.keep_latents,
            questions=self.questions,
            questions_share=self.questions_share,
            start=self.start,
            skip_faulty=self.skip_faulty,
            pictures=self.pictures,
        )
        blend, seen = Blend(weights=self.weight, temperature=self.temperature, slots=self.slots), ()
        if len(self.data) > 1:
            result, seen = train_mixture(self.recipe, self.data, self.out, settings, blend, progress=not self.quiet)
        else:
            if not self.data or blend != Blend():
                raise InputError(
                    where="crossroads train",
                    expected="--data, and more than once beside --weight, --temperature or --slots",
                    got=f"--data {len(self.data)} times",
                    do="Name each dataset of a mixture by a --data of its own.",
                )
            result = train_recipe(self.recipe, self.data[0], self.out, settings, progress=not self.quiet)
        print(f"{self.recipe}: {result.steps} steps in {result.seconds:.1f} s, {short(result.final_losses)}")
        for one in seen:
            print(f"  {one}")
        if not seen and (left_out := read_meta(self.out / "policy").get("left_out")):
            print(f"  {told_of(left_out)}")
        print(self.out / "policy")


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Run policies in closed loop on the same scenes: success, grounding, latency, paired tests, and films.

    A server that wants an API key gets the one in the environment variable CROSSROADS_API_KEY.
    """

    arm: tyro.conf.UseAppendAction[tuple[str, ...]]
    """Repeat for each policy: what `crossroads train` wrote, a cell of a pilot, or ws://host:port of a server that
    speaks openpi's WebSocket protocol. The others are compared with the first. RUN@0.6: a run of mimic_video that acts
    on a future denoised to level 0.6."""
    env: Literal["tabletop"]
    out: Path
    """The folder of the results; the same command again continues in it."""
    families: tuple[str, ...] = ("reach", "press", "push")
    trials: int = 100
    """Usual trials; the scenes are the same for every policy."""
    swapped: int = 50
    """Of these scenes, how many are run again told another of their instructions."""
    execute_steps: int = 6
    """Steps of each chunk that are executed before the next is asked for. A policy that goes on from what it saw
    (dreamzero, lingbot_va) does so if these are a whole chunk of it (12); otherwise each call starts anew."""
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
class Video:
    """Compare a policy's imagined frames with recorded ones: PSNR and SSIM, and on request LPIPS, FID, FVD."""

    run_folder: Positional[Path]
    """What `crossroads train` wrote, or a cell of a pilot."""
    data: Path
    """A LeRobot v3 dataset that the policy was not trained on."""
    windows: int = 256
    """Windows to imagine from, evenly spread."""
    lpips: Literal["alex", "vgg"] | None = None
    """Also LPIPS with this network; needs the package `lpips`."""
    features: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Also a Frechet distance on the features of this TorchScript file: FID with inception-2015-12-05.pt, FVD with
    i3d_torchscript.pt; on any other file the distance is named after it."""

    def run(self) -> None:
        from crossroads.pilot.imagined import score_imagined, scores_text

        found = score_imagined(
            self.run_folder, self.data, num_windows=self.windows, lpips=self.lpips, features=self.features
        )
        print(scores_text(found))


@dataclass(frozen=True, kw_only=True)
class Language:
    """Ask trained policies about pictures: what their language model can still say, beside what it could before."""

    runs: Positional[tuple[Path, ...]]
    """What `crossroads train` wrote, of recipes that stand on the shipped language model."""
    data: Path
    """A LeRobot v3 dataset with questions (its language columns) that the policies were not trained on."""
    questions: int = 400
    """At most so many questions, evenly spread."""
    out: Path | None = None
    """A JSON file to write as well."""

    def run(self) -> None:
        from crossroads.pilot.retention import answers_text, ask, write_answers

        found = ask(self.runs, self.data, num=self.questions)
        print(answers_text(found))
        if self.out is not None:
            print(write_answers(found, self.out))
