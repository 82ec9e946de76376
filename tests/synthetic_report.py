"""Reports with made-up numbers, for tests of the page only. Every title says so; nothing here was measured."""

from __future__ import annotations

import numpy as np
import synthetic_studies

from crossroads.evaluate.grounding import Grounding, grounding, grounding_matrix, rate
from crossroads.evaluate.latency import summarise
from crossroads.evaluate.records import EpisodeRecord
from crossroads.evaluate.statistics import Interval, success_interval
from crossroads.evaluate.swap_probe import Shift, SwapProbe
from crossroads.evaluate.video import VideoScore
from crossroads.pilot import report as page
from crossroads.pilot.verdict import Rules, Verdict, decide, without_closed_loop

KINDS = {
    "pi0": ("VLA", "image and words in, actions out", False),
    "fast_wam": ("WAM", "video in training only, imagines nothing while acting", False),
    "fast_wam_idm": ("WAM", "imagines the future first, then acts on it", True),
    "fast_wam_joint": ("WAM", "imagines the future while it acts", True),
    "cloning": ("control", "no backbone: cloned from pixels", False),
    "other": ("WAM", "one more", False),
}
LABELS = (10, 50, 200)
FAMILIES = ("open drawer", "pick and place", "press", "push to a side", "reach", "stack")
GOALS = ("reach red cube", "reach blue ball", "push green can", "press button")
DIFF = "\n".join(
    (
        "edges        action <- text          present        absent",
        "towers       context                 nano-vlm       nano-video",
        "objectives   video                   none           Flow(weight=1.0)",
    )
)


def _arms(names: tuple[str, ...]) -> tuple[page.Arm, ...]:
    return tuple(page.Arm(name=n, kind=KINDS[n][0], summary=KINDS[n][1], imagines=KINDS[n][2]) for n in names)  # pyright: ignore[reportArgumentType]


def _successes(rng: np.random.Generator, names: tuple[str, ...], gap: float, scenes: int, runs: int) -> dict:
    difficulty = rng.random((1, scenes))
    found = {}
    for index, name in enumerate(names):
        for place, labels in enumerate(LABELS):
            share = 0.2 + 0.22 * place + (gap if index == 2 else 0.01 * index) - (0.3 if name == "cloning" else 0.0)
            mixed = 0.5 * difficulty + 0.5 * rng.random((runs, scenes))
            found[name, labels] = (mixed < max(share, 0.02)).astype(float)
    return found


def _records(rng: np.random.Generator, arm: str, num: int) -> list[EpisodeRecord]:
    records = []
    for seed in range(num):
        usual, other = rng.permutation(len(GOALS))[:2]
        for goal, swapped in ((usual, False), (other, True)):
            hit = bool(rng.random() < 0.6)
            done = GOALS[goal] if hit else GOALS[usual] if swapped and rng.random() < 0.5 else ""
            named = GOALS[goal].split(" ", 1)[1]
            records.append(
                EpisodeRecord(
                    arm=arm,
                    cell="50",
                    training_seed=seed % 3,
                    seed=seed,
                    family=FAMILIES[seed % len(FAMILIES)],
                    text=GOALS[goal],
                    goal=GOALS[goal],
                    named_object=named,
                    num_objects=4,
                    swapped=swapped,
                    success=hit,
                    touched=(done.split(" ", 1)[1],) if done else (),
                    achieved=(done,) if done else (),
                    old_goal_achieved=swapped and done == GOALS[usual],
                    num_steps=30,
                    latencies_s=(0.03,),
                )
            )
    return records


def _closed_loop(rng: np.random.Generator, names: tuple[str, ...], successes: dict) -> page.ClosedLoop:
    curves = tuple(
        page.CurvePoint(
            arm=name,
            labels=labels,
            successes=int(found.sum()),
            trials=found.size,
            runs=len(found),
            interval=success_interval(found),
        )
        for (name, labels), found in successes.items()
    )
    families, grounded = [], []
    for index, name in enumerate(names):
        for family in FAMILIES:
            share = rate([bool(x) for x in rng.random(60) < 0.35 + 0.06 * index])
            assert share is not None
            families.append(page.FamilyRate(arm=name, family=family, rate=share))
        records = _records(rng, name, 180)
        matrix = grounding_matrix(records) if index == 0 else None
        grounded.append(page.ArmGrounding(arm=name, grounding=grounding(records), matrix=matrix))
    return page.ClosedLoop(
        environment="tabletop",
        at="50 labelled demonstrations",
        scenes=180,
        curves=curves,
        families=tuple(families),
        grounding=tuple(grounded),
    )


def _frames(shift: float) -> tuple[str, ...]:
    frames = []
    for index in range(5):
        frame = np.full((64, 64, 3), 205, dtype=np.uint8)
        frame[44:, :] = (150, 120, 90)
        left = int(6 + (9 + shift) * index)
        frame[34:46, left : left + 12] = (190, 40, 40)
        frames.append(page.picture(frame))
    return tuple(frames)


def _offline(names: tuple[str, ...]) -> page.Offline:
    errors = [
        page.OfflineError(
            name=name,
            kind="arm",
            error=0.5 + 0.03 * i,
            interval=Interval(low=0.47 + 0.03 * i, high=0.53 + 0.03 * i),
            chunks=900,
        )
        for i, name in enumerate(names)
    ]
    errors += [
        page.OfflineError(name=name, kind="baseline", error=error, interval=None, chunks=900)
        for name, error in (("mean action", 1.0), ("copy last action", 0.91))
    ]
    probes = tuple(
        page.ArmProbe(
            arm=name,
            probe=SwapProbe(
                shifts=tuple(
                    Shift(instruction=what, relative=size, over_noise=None)
                    for what, size in (("other", 0.8), ("paraphrase", 0.1), ("empty", 0.6), ("nonsense", 0.55))
                ),
                turned=rate([True] * 70 + [False] * 30),
                between_task=0.9,
                num_states=100,
            ),
        )
        for name in names
    )
    gaps = tuple(
        page.Predictability(labels=labels, r2_present=present, r2_future=future, chunks=900)
        for labels, present, future in ((10, -0.05, 0.31), (200, 0.42, 0.66))
    )
    return page.Offline(errors=tuple(errors), predictability=gaps, probes=probes)


def _video(arm: str, gain: float) -> page.ArmVideo:
    scores = tuple(
        VideoScore(
            time_s=time_s,
            psnr_db=27 + gain - 4 * time_s,
            psnr_repeat_db=25 - 5 * time_s,
            moving_psnr_db=17 + gain - 3 * time_s,
            moving_psnr_repeat_db=13.5 - 2 * time_s,
            moving_psnr_grey_db=8.5,
            ssim=0.93 - 0.1 * time_s,
            ssim_repeat=0.9 - 0.1 * time_s,
            moving_share=0.02 + 0.03 * time_s,
            num_clips=64,
        )
        for time_s in (0.2, 0.4, 0.6, 0.8)
    )
    return page.ArmVideo(arm=arm, scores=scores)


def synthetic_report(
    *,
    num_arms: int = 5,
    gap: float = 0.02,
    closed_loop: bool = True,
    runs: int = 3,
    run_id: str = "synthetic",
    decision: bool = False,
) -> page.Report:
    """A report over the first ``num_arms`` arms; the third arm is ahead by ``gap``. ``decision`` adds the designs."""
    rng = np.random.default_rng(0)
    names = tuple(KINDS)[:num_arms]
    successes = _successes(rng, names, gap, 150, runs)
    imagining = [name for name in names if KINDS[name][2]] if closed_loop or num_arms > 2 else []
    return page.Report(
        title="SYNTHETIC TEST REPORT: made-up numbers",
        question="SYNTHETIC: which kind of policy, on a vision-language or on a video backbone?",
        verdict=_verdict(names, successes, closed_loop),
        arms=_arms(names),
        budgets=tuple(
            page.Budget(
                arm=name,
                labelled_episodes=200,
                action_free_episodes=0 if name == "cloning" else 300,
                trainable_parameters=1_048_576 if name != "cloning" else 310_000,
                total_parameters=6_210_000 + 90_000 * index,
                optimiser_steps=2000,
                samples=128_000,
                training_flops=(2.1 if index != 3 else 3.4) * 1e14,
                control_hz=10.0,
            )
            for index, name in enumerate(names)
        ),
        recipe_diffs=tuple(
            page.RecipeDiff(first=names[0], second=name, text=DIFF) for name in names[1:] if KINDS[name][0] == "WAM"
        ),
        closed_loop=_closed_loop(rng, names, successes) if closed_loop else None,
        closed_loop_absent="" if closed_loop else "this dataset comes without a simulator.",
        offline=_offline(names),
        offline_absent="",
        strips=tuple(
            page.Strip(
                arm=name,
                instruction="push the red cube right",
                caption="held-out scene 7; the first frame is given",
                times_s=(0.0, 0.2, 0.4, 0.6, 0.8),
                real=_frames(0.0),
                imagined=_frames(-1.5),
            )
            for name in imagining
        ),
        video=tuple(_video(name, 0.5 * index) for index, name in enumerate(imagining)),
        latency=tuple(
            page.ArmLatency(
                arm=name,
                latency=summarise([0.03 * (1 + 4 * index) * (1 + 0.01 * k) for k in range(30)], device="cpu, 1 thread"),
                denoising_steps=10 if index else 5,
                chunk_s=0.4,
            )
            for index, name in enumerate(names)
        ),
        costs=tuple(
            page.ArmCost(arm=n, seconds=95.0 * (1 + i), flops=2e14 * (1 + i), device="cpu") for i, n in enumerate(names)
        ),
        price=page.Price(per_hour=0.1, currency="EUR"),
        limits=("All numbers on this page are made up.", "A floating gripper is not an arm."),
        provenance=page.Provenance(
            run_id=run_id,
            command="crossroads pilot --profile synthetic --out runs/<synthetic & made up>",
            date="2026-01-01",
            machine="no machine",
            device="cpu",
            training_seeds=tuple(range(runs)),
            scene_seeds="1000 to 1149",
            data="made up",
            data_hash="0000000000000000",
            versions={"crossroads": "0.1.0", "torch": "0.0"},
        ),
        budget=synthetic_studies.budget_table(names) if decision else None,
        studies=synthetic_studies.studies() if decision else (),
        convergence=synthetic_studies.convergence(names) if decision else (),
        executability=synthetic_studies.executability(tuple(imagining)) if decision else (),
        letters=synthetic_studies.letters(names) if decision else (),
    )


def _verdict(names: tuple[str, ...], successes: dict, closed_loop: bool) -> Verdict:
    wams = tuple(name for name in names if KINDS[name][0] == "WAM")
    if not closed_loop or not wams:
        return without_closed_loop("this dataset comes without a simulator.")
    arms, oracle = ({name: successes[name, labels] for name in names} for labels in LABELS[1:])
    return decide(arms=arms, oracle=oracle, rules=Rules(vla="pi0", wams=wams), at="50 labelled demonstrations")


def no_grounding() -> Grounding:
    """What a set without episodes gives."""
    return grounding([])
