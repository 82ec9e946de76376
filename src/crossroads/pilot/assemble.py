"""From the cells' result files to the report: verdict, tables, strips. Nothing is trained or measured here, except
what needs only the data (trivial baselines, predictability)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crossroads.axes import computed
from crossroads.cost.flops import flops
from crossroads.data.cache import FrameCache
from crossroads.data.findings import told_of
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.evaluate.grounding import grounding, grounding_matrix, rate_over_runs
from crossroads.evaluate.latency import Latency
from crossroads.evaluate.offline import action_error, predictability
from crossroads.evaluate.records import EpisodeRecord, read_records
from crossroads.evaluate.statistics import Interval, success_interval
from crossroads.evaluate.swap_probe import SwapProbe
from crossroads.evaluate.video import VideoScore
from crossroads.pilot import report as page
from crossroads.pilot.budget import TEXT_TOKENS
from crossroads.pilot.cell import usable
from crossroads.pilot.many import convergences, letters
from crossroads.pilot.plain import from_plain
from crossroads.pilot.plan import Cell, fit
from crossroads.pilot.provenance import provenance
from crossroads.pilot.run import Run
from crossroads.pilot.spending import accounted, budget_guard
from crossroads.pilot.study import BudgetTable, Executability, Study
from crossroads.pilot.verdict import Rules, Verdict, claimed, decide, without_closed_loop
from crossroads.recipe import Recipe, diff
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.nano import FUTURE_S
from crossroads.schedule import Denoise

SUMMARIES = {
    "inverse_dynamics": "imagines the future first, then acts on it",
    "joint_prediction": "imagines the future while it acts",
    "representation_only": "video in pretraining only, imagines nothing while acting",
    "no_future": "image and words in, actions out",
}
LIMITS = (
    "A floating gripper on a table of primitives: results compare methods under control and do not predict the "
    "performance of an arm with photographs.",
    "Nano size (5 M-parameter backbones at 64 px): a direction found here is a reason to test it at scale, not a "
    "result at scale.",
    "In the head phase backbones are frozen: the video loss of Fast-WAM acts through pretraining alone.",
)


def assemble(run: Run, results: Sequence[dict[str, Any]], *, command: str) -> page.Report:
    """The report of a finished run."""
    dataset = LeRobotDataset.open(run.data, without=run.left_out)
    recipes = {name: fit(recipe(name), dataset.space, dataset.cameras) for name in (*run.plan.arms, run.plan.control)}
    arms = tuple(_arm(run, name, recipes[name]) for name in recipes)
    records = _records(run, results) if run.closed_loop else {}
    at = verdict_labels(run)
    table = accounted(run.spending, results, _flops_by_arm(run, results, recipes))
    return page.Report(
        title=f"crossroads pilot: {run.plan.vla} against {', '.join(run.plan.wams)}",
        question="Which kind of policy should we commit to, one on a vision-language backbone or one on a video "
        "backbone?",
        verdict=_verdict(run, records, at, table),
        arms=arms,
        budgets=tuple(_budget(run, result, recipes) for result in _largest(run, results)),
        recipe_diffs=tuple(
            page.RecipeDiff(first=run.plan.vla, second=wam, text=diff(recipes[run.plan.vla], recipes[wam]))
            for wam in run.plan.wams
        ),
        closed_loop=_closed_loop(run, records, at) if run.closed_loop else None,
        closed_loop_absent="This dataset comes without a simulator.",
        offline=_offline(run, results, dataset, recipes),
        offline_absent="",
        strips=_strips(run, results),
        video=tuple(
            page.ArmVideo(arm=r["arm"], scores=tuple(from_plain(VideoScore, score) for score in r["video"]))
            for r in _largest(run, results)
            if r["video"]
        ),
        latency=tuple(_latency(run, result, recipes) for result in _largest(run, results)),
        costs=_costs(results, recipes, run),
        price=None,
        limits=(*LIMITS, *((f"{told_of(run.left_out)}, as was asked for.",) if run.left_out else ())),
        provenance=provenance(run, dataset, command, results),
        budget=table,
        studies=_studies(run),
        convergence=convergences(run.plan, results),
        executability=_executability(run),
        letters=letters({arm: _successes(run, records, arm, at) for arm in run.plan.arms} if records else {}),
    )


def _arm(run: Run, name: str, found: Recipe) -> page.Arm:
    kind = "VLA" if name == run.plan.vla else "WAM" if name in run.plan.wams else "control"
    imagines = computed(found).paradigm in ("inverse_dynamics", "joint_prediction")
    summary = SUMMARIES[computed(found).paradigm]
    if kind == "control":
        summary = "no backbone: cloned from pixels, all weights from scratch"
    return page.Arm(name=name, kind=kind, summary=summary, imagines=imagines)


def _largest(run: Run, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One result per arm: all labels, first seed."""
    most = max(run.subsets)
    return [r for r in results if r["labels"] == most and r["seed"] == run.plan.seeds[0] and not r["doubled"]]


def _records(run: Run, results: Sequence[dict[str, Any]]) -> dict[tuple[str, int, int], tuple[EpisodeRecord, ...]]:
    cells = [(r, Cell(arm=r["arm"], labels=r["labels"], seed=r["seed"])) for r in results if not r["doubled"]]
    return {
        (cell.arm, cell.labels, cell.seed): read_records(run.out / "cells" / cell.name / "episodes.jsonl")
        for _, cell in cells
    }


def _successes(run: Run, records: dict, arm: str, labels: int) -> np.ndarray:
    """Runs x scenes of usual (unswapped) trials."""
    rows = [[record.success for record in records[arm, labels, seed] if not record.swapped] for seed in run.plan.seeds]
    return np.array(rows, dtype=int)


def verdict_labels(run: Run) -> int:
    """The label budget at which the verdict is read: the plan's, or all labels where the data has fewer."""
    return run.plan.verdict_labels if run.plan.verdict_labels in run.subsets else max(run.subsets)


def to_double(run: Run, results: Sequence[dict[str, Any]]) -> tuple[Cell, ...]:
    """The cells of the plateau check: the two arms of a difference that would be a win, trained twice as long."""
    if not run.closed_loop:
        return ()
    at, records = verdict_labels(run), _records(run, results)
    arms = {arm: _successes(run, records, arm, at) for arm in run.plan.arms}
    chosen = claimed(arms, Rules(vla=run.plan.vla, wams=run.plan.wams))
    if chosen is None:
        return ()
    return tuple(
        Cell(arm=arm, labels=at, seed=seed, doubled=True) for seed in run.plan.seeds for arm in (run.plan.vla, chosen)
    )


def _verdict(run: Run, records: dict, at: int, table: BudgetTable) -> Verdict:
    if not run.closed_loop:
        return without_closed_loop("this dataset comes without a simulator, so nothing was executed.")
    arms = {arm: _successes(run, records, arm, at) for arm in run.plan.arms}
    oracle = {arm: _successes(run, records, arm, max(run.subsets)) for arm in run.plan.arms}
    return decide(
        arms=arms,
        oracle=oracle,
        rules=Rules(vla=run.plan.vla, wams=run.plan.wams),
        at=f"{at} labelled demonstrations",
        doubled=_doubled(run, at),
        further=(budget_guard(table),),
    )


def _doubled(run: Run, at: int) -> dict[str, np.ndarray]:
    """Successes of the cells that were trained twice as long; an arm of which a seed is missing is left out."""
    found = {}
    for arm in run.plan.arms:
        cells = [Cell(arm=arm, labels=at, seed=seed, doubled=True) for seed in run.plan.seeds]
        paths = [run.out / "cells" / cell.name / "episodes.jsonl" for cell in cells]
        if all(run.task(cell).result.exists() for cell in cells):
            found[arm] = np.array([[r.success for r in read_records(path) if not r.swapped] for path in paths], int)
    return found


def _executability(run: Run) -> tuple[Executability, ...]:
    """Of every arm whose imagined clips were played."""
    found = sorted((run.out / "clips").glob("*/result.json"))
    return tuple(from_plain(Executability, json.loads(path.read_text())) for path in found)


def _studies(run: Run) -> tuple[Study, ...]:
    """The matched experiments that were run in this pilot's folder."""
    found = sorted((run.out / "studies").glob("*/study.json"))
    return tuple(from_plain(Study, json.loads(path.read_text(encoding="utf-8"))) for path in found)


def _flops_by_arm(run: Run, results: Sequence[dict[str, Any]], recipes: dict[str, Recipe]) -> dict[str, float]:
    return {
        arm: float(sum(_flops(run, r, recipes) for r in results if r["arm"] == arm and not r["doubled"]))
        for arm in run.plan.arms
    }


def _closed_loop(run: Run, records: dict, at: int) -> page.ClosedLoop:
    curves, families, grounded = [], [], []
    for arm, labels in sorted({(arm, labels) for arm, labels, _ in records}, key=lambda key: (key[0], key[1])):
        successes = _successes(run, records, arm, labels)
        curves.append(
            page.CurvePoint(
                arm=arm,
                labels=labels,
                successes=int(successes.sum()),
                trials=successes.size,
                runs=len(successes),
                interval=success_interval(successes),
            )
        )
    for arm in (*run.plan.arms, run.plan.control):
        labels = at if (arm, at, run.plan.seeds[0]) in records else max(run.subsets)
        found = [record for seed in run.plan.seeds for record in records[arm, labels, seed]]
        for family in run.plan.families:
            usual = [record for record in found if record.family == family and not record.swapped]
            share = rate_over_runs(usual, lambda record: record.success)
            if share is not None:
                families.append(page.FamilyRate(arm=arm, family=family, rate=share))
        matrix = grounding_matrix(found, told=lambda record: _verb(record.goal), achieved=_verb)
        grounded.append(page.ArmGrounding(arm=arm, grounding=grounding(found), matrix=matrix))
    return page.ClosedLoop(
        environment="tabletop",
        at=f"{at} labelled demonstrations ({run.plan.control}: {max(run.subsets)})",
        scenes=run.plan.num_trials,
        curves=tuple(curves),
        families=tuple(families),
        grounding=tuple(grounded),
    )


def _verb(goal: str) -> str:
    return goal.split(" ")[0]


def _budget(run: Run, result: dict[str, Any], recipes: dict[str, Recipe]) -> page.Budget:
    return page.Budget(
        arm=result["arm"],
        labelled_episodes=result["labels"],
        action_free_episodes=len(run.action_free) if run.plan.phase == "full" else 0,
        trainable_parameters=result["trainable"],
        total_parameters=result["parameters"],
        optimiser_steps=result["steps"],
        samples=result["samples"],
        training_flops=float(_flops(run, result, recipes)),
        control_hz=recipes[result["arm"]].window.control_hz,
    )


def _flops(run: Run, result: dict[str, Any], recipes: dict[str, Recipe]) -> int:
    found = recipes[result["arm"]]
    names = [phase.name for phase in found.phases]
    phase = run.plan.phase if run.plan.phase in names else "full"
    counted = flops(found, tokens={"text": TEXT_TOKENS})
    sample = (counted.train_cached if phase == "head" else counted.train)[phase]
    return result["samples"] * sample.total


def _offline(
    run: Run, results: Sequence[dict[str, Any]], dataset: LeRobotDataset, recipes: dict[str, Recipe]
) -> page.Offline:
    errors = [
        page.OfflineError(
            name=r["arm"],
            kind="arm",
            error=r["action_error"]["root_mean_square"],
            interval=Interval(**r["action_error"]["interval"]),
            chunks=r["action_error"]["num_windows"],
        )
        for r in _largest(run, results)
    ]
    baselines, predictable = _from_data_alone(run, dataset, recipes[run.plan.vla])
    probes = tuple(
        page.ArmProbe(arm=r["arm"], probe=from_plain(SwapProbe, r["swap_probe"]))
        for r in _largest(run, results)
        if r["swap_probe"]
    )
    return page.Offline(errors=(*errors, *baselines), predictability=(predictable,), probes=probes)


def _from_data_alone(
    run: Run, dataset: LeRobotDataset, found: Recipe
) -> tuple[list[page.OfflineError], page.Predictability]:
    """Mean action, copy of the last action, and how much of the chunk the true future would explain."""
    window = replace(found.window, future_s=FUTURE_S)
    cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw)
    most = max(run.subsets)
    # The read-out's penalty is chosen on the second half: recorded in order, that would be other instructions.
    mixed = np.random.default_rng(0).permutation(run.subsets[most]).tolist()
    train = Windows(dataset, window, episodes=mixed, cache=cache)
    held = Windows(dataset, window, episodes=run.held_out, cache=cache)
    chosen = usable(train, set(run.subsets[most]))
    chosen = chosen[:: max(1, len(chosen) // 2000)]
    tested = usable(held, set(run.held_out))
    tested = tested[np.linspace(0, len(tested) - 1, min(1000, len(tested))).astype(int)]
    seen, truth = train.batch(chosen), held.batch(tested)
    stats = dataset.statistics("action", run.subsets[most])
    mean, scale = np.array(stats.mean), np.array(stats.std)
    places = [held.places()[row] for row in tested]
    last = np.stack([_last_action(dataset, *place) for place in places])
    shape = truth.actions.shape
    guesses = {
        "mean action": np.broadcast_to(mean, shape),
        "copy last action": np.broadcast_to(last[:, None], shape),
    }
    baselines = []
    for name, guess in guesses.items():
        error = action_error(guess, truth, mean, scale, [episode for episode, _ in places])
        baselines.append(
            page.OfflineError(
                name=name,
                kind="baseline",
                error=error.root_mean_square,
                interval=error.interval,
                chunks=error.num_windows,
            )
        )
    measured = predictability(seen, truth, window.cameras[0], mean, scale)
    predictable = page.Predictability(
        labels=most, r2_present=measured.r2_present, r2_future=measured.r2_with_future, chunks=len(tested)
    )
    return baselines, predictable


def _last_action(dataset: LeRobotDataset, episode: int, frame: int) -> np.ndarray:
    actions = dataset.actions(episode)
    return actions[max(frame - 1, 0)] if frame else np.zeros_like(actions[0])


def _strips(run: Run, results: Sequence[dict[str, Any]]) -> tuple[page.Strip, ...]:
    strips = []
    for r in _largest(run, results):
        path = run.out / "cells" / f"{r['arm']}-{r['labels']}-{r['seed']}" / "film.npz"
        if not path.exists():
            continue
        with np.load(path, allow_pickle=False) as film:
            for index in range(min(2, len(film["now"]))):
                now = film["now"][index]
                strips.append(
                    page.Strip(
                        arm=r["arm"],
                        instruction=str(film["text"][index]),
                        caption="held-out demonstration; the first frame is given",
                        times_s=(0.0, *FUTURE_S),
                        real=tuple(page.picture(frame) for frame in (now, *film["real"][index])),
                        imagined=tuple(page.picture(frame) for frame in (now, *film["imagined"][index])),
                    )
                )
    return tuple(strips)


def _latency(run: Run, result: dict[str, Any], recipes: dict[str, Recipe]) -> page.ArmLatency:
    legs = recipes[result["arm"]].stage.schedule
    return page.ArmLatency(
        arm=result["arm"],
        latency=Latency(**result["latency"]),
        denoising_steps=sum(leg.solver.steps for leg in legs if isinstance(leg, Denoise)),
        chunk_s=run.plan.execute_steps / recipes[result["arm"]].window.control_hz,
    )


def _costs(results: Sequence[dict[str, Any]], recipes: dict[str, Recipe], run: Run) -> tuple[page.ArmCost, ...]:
    costs = []
    for arm in dict.fromkeys(r["arm"] for r in results):
        own = [r for r in results if r["arm"] == arm]
        costs.append(
            page.ArmCost(
                arm=arm,
                seconds=sum(r["train_seconds"] for r in own),
                flops=float(sum(_flops(run, r, recipes) for r in own)),
                device=own[0]["device"],
            )
        )
    return tuple(costs)
