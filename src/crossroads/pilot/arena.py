"""Any number of arms on the same scenes of the embedded world: ``crossroads eval``.

Scenes are run in rounds, all arms on the same round, so evaluation may end between two rounds once every question is
settled. What was run is on disk after each round; the same call goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossroads.data.video import VideoWriter
from crossroads.errors import InputError
from crossroads.evaluate.calls import Calls, looks_of
from crossroads.evaluate.closed_loop import Trials, check_swaps, open_tables, run_round
from crossroads.evaluate.grounding import Grounding, grounding, grounding_by
from crossroads.evaluate.latency import Latency, summarise
from crossroads.evaluate.records import EpisodeRecord, read_records, write_records
from crossroads.evaluate.versus import Stopping, Versus, compare_anytime, compare_fixed, letters
from crossroads.pilot.arms import Arm
from crossroads.pilot.plain import to_plain
from crossroads.pilot.plan import TRIAL_SEED
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.sim.tabletop.vector import VectorTabletop

RECORDS, RESULT, PLAN = "episodes.jsonl", "evaluation.json", "plan.json"
ALONE = "one request per robot, there and back"
TOGETHER = "computed for all running robots at once, divided by their number"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run, fixed before anything is."""

    families: tuple[str, ...]
    num_trials: int
    """Usual scenes; at most this many when stopping early is allowed."""
    num_swapped: int
    """Of the scenes that were run, how many are run again told another of their instructions."""
    execute_steps: int
    num_videos: int
    """Films of each arm."""
    stopping: Stopping | None = None
    round_size: int = 20
    """Scenes that are run at once, and the number between two looks."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one arm did."""

    name: str
    kind: str
    identity: dict[str, Any]
    letter: str
    """Arms that share a letter were not found different; empty for a single arm."""
    overall: Grounding
    families: dict[str, Grounding]
    latency: Latency
    """Of one chunk of actions."""
    latency_is: str
    server_median_s: float | None
    """What a server says that it computed for, in this call; None for a run, or where it says nothing."""
    clipped_share: float | None
    """Share of a server's numbers that lay outside the robot's limits, in this call."""
    num_reconnects: int
    memory: str
    """Whether a policy that can go on from its last call did; empty for one that cannot."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``crossroads eval`` found; written to ``evaluation.json``."""

    env: str
    first_scene: int
    num_scenes: int
    settings: Settings
    ended: str
    """Why no more scenes were run."""
    arms: tuple[Measured, ...]
    pairs: tuple[Versus, ...]
    """Every other arm against the first."""


Key = tuple[str, bool, int]
"""Arm, swapped, scene."""
Report = Callable[[int], object]
"""Called with the number of episodes that were just finished."""


def evaluate_arms(arms: Sequence[Arm], settings: Settings, out: Path, report: Report) -> Evaluation:
    """Run what ``out`` does not hold yet, and compare; episodes, films and the figures are in ``out`` afterwards.

    Raises:
        InputError: the settings do not fit the arms, ``out`` belongs to something else, or an arm fails.
    """
    _check(arms, settings)
    done = _claim(out, arms, settings)
    tables: dict[Any, VectorTabletop] = {}
    with contextlib.ExitStack() as stack:

        def play(arm: Arm, trials: Trials, start: int) -> None:
            seeds = trials.seeds[start : start + trials.num_envs]
            if all((arm.name, trials.swapped, seed) in done for seed in seeds):
                report(len(seeds))
                return
            kind = (arm.cameras, arm.image_hw)
            if kind not in tables:
                usual = _trials(arm, settings, settings.num_trials)
                tables[kind] = stack.enter_context(open_tables(usual))
            labels = {"arm": arm.name, "cell": arm.kind, "training_seed": 0}
            for record in run_round(arm.policy, trials, tables[kind], start, labels=labels):
                done[arm.name, trials.swapped, record.seed] = record
            _keep(out, arms, done)
            report(len(seeds))

        num_scenes = _usual_rounds(arms, settings, done, play)
        num_swapped = min(settings.num_swapped, num_scenes)
        for arm in arms if num_swapped else ():
            swapped = replace(_trials(arm, settings, num_swapped), swapped=True)
            for start in range(0, num_swapped, swapped.num_envs):
                play(arm, swapped, start)
    for index, arm in enumerate(arms, start=1):
        folder = out / "videos" / f"{index}-{_file_name(arm.name)}"
        if settings.num_videos and not folder.exists():
            film(arm, _trials(arm, settings, num_scenes), folder, settings.num_videos)
    found = _result(arms, settings, done, num_scenes)
    _write(out / RESULT, to_plain(found, "evaluation"))
    return found


def _usual_rounds(
    arms: Sequence[Arm],
    settings: Settings,
    done: Mapping[Key, EpisodeRecord],
    play: Callable[[Arm, Trials, int], None],
) -> int:
    """All rounds, or as many as settle every pair; returns the number of scenes."""
    trials = [_trials(arm, settings, settings.num_trials) for arm in arms]
    num_scenes = 0
    while num_scenes < settings.num_trials:
        for arm, of_arm in zip(arms, trials, strict=True):
            play(arm, of_arm, num_scenes)
        num_scenes = min(num_scenes + trials[0].num_envs, settings.num_trials)
        if settings.stopping:
            pairs = compare_anytime(_successes(arms, done, num_scenes), settings.stopping)
            if all(pair.answer != "open" for pair in pairs):
                break
    return num_scenes


def _trials(arm: Arm, settings: Settings, num: int) -> Trials:
    """The pilot's scenes as this arm sees them."""
    return Trials(
        families=settings.families,
        seeds=tuple(range(TRIAL_SEED, TRIAL_SEED + num)),
        execute_steps=settings.execute_steps,
        cameras=arm.cameras,
        image_hw=arm.image_hw,
        num_envs=settings.round_size,
    )


def _successes(arms: Sequence[Arm], done: Mapping[Key, EpisodeRecord], num_scenes: int) -> dict[str, np.ndarray]:
    seeds = range(TRIAL_SEED, TRIAL_SEED + num_scenes)
    return {arm.name: np.array([done[arm.name, False, seed].success for seed in seeds]) for arm in arms}


def _check(arms: Sequence[Arm], settings: Settings) -> None:
    if settings.num_trials < 1 or min(settings.num_swapped, settings.num_videos) < 0 or settings.execute_steps < 1:
        raise InputError(
            where="eval",
            expected="--trials and --execute-steps of at least 1, --swapped and --videos of at least 0",
            got=f"{settings.num_trials}, {settings.execute_steps}, {settings.num_swapped}, {settings.num_videos}",
            do="Correct the number.",
        )
    if settings.stopping and (len(arms) < 2 or not 0 < settings.stopping.margin < 1):
        raise InputError(
            where="--until-settled",
            expected="at least two arms and a --margin between 0 and 1",
            got=f"{len(arms)} and {settings.stopping.margin:g}",
            do="Give another --arm, or leave out --until-settled.",
        )
    for arm in arms:
        if arm.execute_at_most is not None and settings.execute_steps > arm.execute_at_most:
            raise InputError(
                where=f"--execute-steps, arm {arm.name}",
                expected=f"at most the {arm.execute_at_most} actions of its chunks",
                got=str(settings.execute_steps),
                do="Lower --execute-steps.",
            )
    check_swaps(_trials(arms[0], settings, min(settings.num_swapped, settings.num_trials)))


def _claim(out: Path, arms: Sequence[Arm], settings: Settings) -> dict[Key, EpisodeRecord]:
    """Say whose folder this is; returns the episodes that it already holds."""
    plan = {"arms": {arm.name: to_plain(dict(arm.identity)) for arm in arms}, "settings": asdict(settings)}
    plan = json.loads(json.dumps(plan))
    path = out / PLAN
    if path.exists():
        if json.loads(path.read_text()) != plan:
            raise InputError(
                where=str(out),
                expected="an empty folder or one of this evaluation (same arms, same settings)",
                got="one of another evaluation",
                do="Give another --out, or delete that folder.",
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            where=str(out), expected="an empty folder", got="other files", do="Give another --out; nothing was changed."
        )
    else:
        _write(path, plan)
    if not (out / RECORDS).exists():
        return {}
    return {(record.arm, record.swapped, record.seed): record for record in read_records(out / RECORDS)}


def _keep(out: Path, arms: Sequence[Arm], done: Mapping[Key, EpisodeRecord]) -> None:
    """All episodes so far, arm by arm, usual before swapped, in the order of the scenes."""
    places = {arm.name: place for place, arm in enumerate(arms)}
    write_records(out / RECORDS, [done[key] for key in sorted(done, key=lambda key: (places[key[0]], *key[1:]))])


def _result(arms: Sequence[Arm], settings: Settings, done: Mapping[Key, EpisodeRecord], num_scenes: int) -> Evaluation:
    successes = _successes(arms, done, num_scenes)
    pairs: tuple[Versus, ...] = ()
    named = dict.fromkeys(successes, "")
    if len(arms) > 1:
        pairs = compare_anytime(successes, settings.stopping) if settings.stopping else compare_fixed(successes)
        named = letters(successes, anytime=settings.stopping is not None)
    return Evaluation(
        env="tabletop",
        first_scene=TRIAL_SEED,
        num_scenes=num_scenes,
        settings=settings,
        ended=_why(settings, pairs, num_scenes),
        arms=tuple(
            _measured(arm, settings, [record for record in done.values() if record.arm == arm.name], named[arm.name])
            for arm in arms
        ),
        pairs=pairs,
    )


def _why(settings: Settings, pairs: Sequence[Versus], num_scenes: int) -> str:
    if settings.stopping is None:
        return "all scenes were run; their number was fixed beforehand"
    still = [pair.arm for pair in pairs if pair.answer == "open"]
    if still:
        return f"all {num_scenes} scenes were run and it is still open against {', '.join(still)}"
    told = [
        f"{pair.arm} is {pair.answer + (' to' if pair.answer == 'equal' else ' than')} {pair.first} "
        f"(after {pair.settled_after})"
        for pair in pairs
    ]
    return f"settled after {num_scenes} of at most {settings.num_trials} scenes: {'; '.join(told)}"


def _memory(passed_s: tuple[float, ...], execute_steps: int) -> str:
    """Whether a policy that wants these frames of the time since its last call was given them."""
    hz = TABLETOP_SPACE.control_hz
    if not passed_s:
        return ""
    if looks_of(passed_s, execute_steps=execute_steps, control_hz=hz):
        return "each call goes on from what passed since the last"
    return f"each call starts anew: {execute_steps} steps are executed, not the {passed_s[-1] * hz:.0f} of its blocks"


def _measured(arm: Arm, settings: Settings, records: Sequence[EpisodeRecord], letter: str) -> Measured:
    remote = arm.remote
    seconds = [second for record in records for second in record.latencies_s]
    return Measured(
        name=arm.name,
        kind=arm.kind,
        identity=dict(arm.identity),
        letter=letter,
        overall=grounding(records),
        families=grounding_by(records, lambda record: record.family),
        latency=summarise(seconds, device="server" if remote else "cpu"),
        latency_is=ALONE if remote else TOGETHER,
        server_median_s=float(np.median(remote.server_s)) if remote and remote.server_s else None,
        clipped_share=remote.clipped_share if remote else None,
        num_reconnects=remote.client.num_reconnects if remote else 0,
        memory=_memory(arm.policy.passed_s, settings.execute_steps),
    )


def film(arm: Arm, trials: Trials, folder: Path, num: int) -> None:
    """The first scenes played once more as mp4, one file each, named by scene and instruction."""
    trials = replace(trials, seeds=trials.seeds[:num])
    generator = torch.Generator().manual_seed(0)
    with open_tables(trials) as tables:
        step = tables.reset(trials.seeds)
        frames = [[step.obs[trials.cameras[0]][row]] for row in range(len(trials.seeds))]
        calls = Calls(arm.policy, tables, len(trials.seeds), execute_steps=trials.execute_steps)
        every = tuple(range(1, trials.execute_steps + 1))
        while not step.done.all():
            call = calls.ask(step, generator=generator)
            step = calls.play(call, looks=every)
            for row in call.rows:
                frames[row] += [seen[trials.cameras[0]] for seen in step.infos[row]["passed"].values()]
        texts = [info["task"].text for info in step.infos]
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for seed, text, pictures in zip(trials.seeds, texts, frames, strict=True):
        _write_film(partial / f"{seed}-{text.replace(' ', '-')}.mp4", pictures, tables.control_hz)
    partial.rename(folder)


def _write_film(path: Path, pictures: Iterable[np.ndarray], fps: float) -> None:
    small = np.stack(list(pictures))
    times = max(1, 256 // small.shape[1])
    large = np.repeat(np.repeat(small, times, axis=1), times, axis=2)
    writer = VideoWriter(path, fps=fps, image_hw=(large.shape[1], large.shape[2]))
    writer.append(large)
    writer.close()


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in text).strip("-.")


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)
