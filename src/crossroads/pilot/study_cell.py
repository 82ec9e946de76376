"""One cell of a matched experiment: train everything its arm needs, run its trials, write one result file.

Like a pilot's cell it depends on nothing but the design, the data and the backbones; frozen features are computed once
per recipe and shared. What an arm may not see is not in its files: action-free episodes are recorded without actions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossroads.axes import imagines
from crossroads.backbones.load import SHIPPED, load_backbones, load_weights_of
from crossroads.backbones.retention import graded, language_of
from crossroads.build import build
from crossroads.cores import training_device
from crossroads.cost.flops import parameters
from crossroads.data.cache import FrameCache
from crossroads.data.language import QuestionBatches
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.evaluate.closed_loop import Trials, run_trials
from crossroads.evaluate.records import EpisodeRecord, write_records
from crossroads.pilot.budget import Training
from crossroads.pilot.cell import Report, WindowBatches, usable, write_json
from crossroads.pilot.design import Condition, Design, Route, StudyCell
from crossroads.pilot.fitting import fit_to
from crossroads.pilot.inverse import (
    Imagined,
    InverseModel,
    Sees,
    label,
    motion_recipe,
    reader_parameters,
    scene_recipe,
    train_inverse,
    vision,
)
from crossroads.pilot.plan import TRIAL_SEED, fingerprint, fit
from crossroads.pilot.study_words import reader_check, starts_of, words_of
from crossroads.policy import Policy, StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.nano_video import nano_video
from crossroads.space import ActionSpace
from crossroads.train.cotraining import CoTraining
from crossroads.train.feature_making import build_store
from crossroads.train.features import FeatureSource, FeatureStore, HeadTraining
from crossroads.train.loop import train
from crossroads.train.optim import TrainConfig, finetuning
from crossroads.types import Window


@dataclass(frozen=True, kw_only=True)
class StudyTask:
    """Everything a worker process needs to run a cell."""

    cell: StudyCell
    design: Design
    data: Path
    out: Path
    subsets: dict[int, tuple[int, ...]]
    """Labelled episodes by number of labels, nested."""
    video: tuple[int, ...]
    answers: tuple[int, ...]
    questions: tuple[int, ...] = ()
    """Episodes whose pictures policies are asked about and never trained on."""

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def folder(self) -> Path:
        return self.out / "cells" / self.cell.name

    @property
    def result(self) -> Path:
        """Written last, so a cell that has it is finished."""
        return self.folder / "result.json"

    @property
    def route(self) -> Route:
        return self.design.route(self.cell.route)

    def run(self, report: Report) -> dict[str, Any]:
        """Train and measure; returns (and writes) the result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        dataset = LeRobotDataset.open(self.data)
        started = time.perf_counter()
        policy, curve, inverse = _train(self, dataset, report)
        seconds = time.perf_counter() - started
        trainings = trainings_of(self.design, self.route, dataset.space, dataset.cameras)
        report(0.7)
        records = self._trials(policy, report)
        write_records(self.folder / "episodes.jsonl", [record for found in records.values() for record in found])
        result = {
            **asdict(self.cell),
            "networks": [training.recipe.name for training in trainings],
            "steps": sum(training.steps for training in trainings),
            "samples": sum(training.steps * training.batch_size for training in trainings),
            "flops": sum(training.flops for training in trainings),
            "parameters": sum(training.parameters for training in trainings),
            "seconds": seconds,
            "losses": curve,
            "conditions": {name: [int(record.success) for record in found] for name, found in records.items()},
            "words": self._words(dataset, policy, inverse),
        }
        for condition in self.design.conditions:
            if condition.questions:
                asked = self._asked(dataset, policy, condition)
                result["conditions"][condition.name] = asked["after"]
                result["asked"] = asked
        write_json(self.result, result)
        report(1.0)
        return result

    def _words(self, dataset: LeRobotDataset, policy: Policy, inverse: InverseModel | None) -> dict[str, Any] | None:
        """What the words change before anything moves, where the design has swapped trials."""
        swapped = next((condition for condition in self.design.conditions if condition.swapped), None)
        if swapped is None or self.cell.doubled:
            return None
        labelled, route = self.subsets[self.cell.labels], self.route
        scale = np.array(dataset.statistics("action", labelled).std)
        reader = None
        if route.recipe is None or imagines(recipe(route.recipe)):
            reader = inverse or _inverse(self, dataset, labelled, "motion", "reader")
        found = words_of(policy, starts_of(trials_of(self.design, swapped)), scale, reader)
        if reader is not None and self.answers:
            found["reader"] = reader_check(reader, dataset, self.answers)
        return found

    def _asked(self, dataset: LeRobotDataset, policy: Policy, condition: Condition) -> dict[str, Any]:
        """What the language model under the policy answers, with its weights of before training and of after."""
        assert isinstance(policy, StreamPolicy)
        model = language_of(policy)
        untouched = build(model.recipe, dataset.space, seed=0)
        load_weights_of(untouched, SHIPPED)
        source = QuestionBatches.of(dataset, model.recipe.window, batch_size=1, seed=0, episodes=set(self.questions))
        before, after = (graded(each, source, condition.questions) for each in (untouched, model))
        return {"kinds": after.kinds, "before": [int(r) for r in before.right], "after": [int(r) for r in after.right]}

    def _trials(self, policy: Policy, report: Report) -> dict[str, tuple[EpisodeRecord, ...]]:
        found = {}
        for index, condition in enumerate(self.design.conditions):
            if condition.questions:
                continue
            found[condition.name] = run_trials(
                policy,
                trials_of(self.design, condition),
                arm=self.cell.route,
                cell=f"{self.cell.labels} labels, {condition.name}",
                training_seed=self.cell.seed,
            )
            report(0.7 + 0.3 * (index + 1) / len(self.design.conditions))
        return found


def trials_of(design: Design, condition: Condition) -> Trials:
    """The scenes of a condition; the same for every arm and seed."""
    return Trials(
        families=design.families,
        seeds=tuple(range(TRIAL_SEED, TRIAL_SEED + design.num_trials)),
        execute_steps=design.execute_steps,
        swapped=condition.swapped,
        pairing=condition.pairing,
        perturbation=condition.perturbation,
    )


# what is trained ------------------------------------------------------------------------------------------------------


def trainings_of(design: Design, route: Route, space: ActionSpace, cameras: tuple[str, ...]) -> tuple[Training, ...]:
    """The networks that a cell of this arm trains: the policy, and its inverse model if it has one."""
    steps, found = design.steps // route.num_networks, []
    if route.recipe is not None:
        sized = recipe_of(design, route, space, cameras)
        found.append(Training(recipe=sized, phase=route.phase, steps=steps, batch_size=design.batch_size))
    if route.inverse is not None:
        sized = inverse_recipe_of(design, route, space, cameras)
        beside = reader_parameters(space)
        found.append(Training(recipe=sized, phase="head", steps=steps, batch_size=design.batch_size, beside=beside))
    return tuple(found)


def recipe_of(design: Design, route: Route, space: ActionSpace, cameras: tuple[str, ...]) -> Recipe:
    """The arm's policy, sized for the robot and for the trained parameters that all arms share."""
    assert route.recipe is not None
    sized = fit(recipe(route.recipe), space, cameras).vary(dict(route.changes))
    if route.losses:
        phases = tuple(
            replace(phase, losses=route.losses) if phase.name == route.phase else phase for phase in sized.phases
        )
        sized = replace(sized, phases=phases)
    return _widened(sized, route.phase, design.trained_parameters // route.num_networks)


def inverse_recipe_of(design: Design, route: Route, space: ActionSpace, cameras: tuple[str, ...]) -> Recipe:
    """The arm's inverse model; with its state reader it makes up the rest of the shared number of parameters."""
    sized = (scene_recipe if route.inverse == "scene" else motion_recipe)(space, cameras)
    wanted = design.trained_parameters // route.num_networks
    return _widened(sized, "head", wanted - reader_parameters(space) if wanted else 0)


def _widened(sized: Recipe, phase: str, wanted: int) -> Recipe:
    """The recipe with its expert's MLP as wide as it takes to train ``wanted`` parameters; not positive: as it is."""
    if wanted <= 0:
        return sized
    place = "stage.towers.expert.spec.mlp"
    at = {width: parameters(sized.vary({place: width})).trained[phase] for width in (128, 256)}
    per_unit = (at[256] - at[128]) / 128
    width = 8 * round((128 + (wanted - at[128]) / per_unit) / 8)
    return sized.vary({place: max(8, width)})


def _train(
    task: StudyTask, dataset: LeRobotDataset, report: Report
) -> tuple[Policy, list[dict[str, float]], InverseModel | None]:
    """The cell's policy, its losses, and its inverse model if it has one."""
    design, route, cell = task.design, task.route, task.cell
    labelled = task.subsets[cell.labels]
    inverse = _inverse(task, dataset, labelled, route.inverse, "inverse") if route.inverse else None
    report(0.25 if inverse else 0.05)
    if route.recipe is None:
        assert inverse is not None
        return Imagined(_planner(dataset.space, cell.seed), inverse), [], inverse
    sized = recipe_of(design, route, dataset.space, dataset.cameras)
    policy = build(sized, dataset.space, seed=cell.seed)
    load_backbones(policy)
    own = (*labelled, *(task.answers if route.ceiling else ()))
    fit_to(policy, dataset, own)
    policy.enter(sized.phase(route.phase))
    config = _config(task)
    mark = fingerprint(sized, own, route)
    settings = {"device": training_device(), "progress": False, "recipe_name": sized.name, "fingerprint": mark}
    if route.phase == "head":
        store, places = _store(task, dataset, policy, sized.name, sized.window, _episodes(task))
        rows = _rows(places, own)
        if inverse is not None:
            free = _rows(places, task.video)
            actions, states = _pseudo(task, dataset, inverse, [places[row] for row in free])
            store, rows = store.labelled(free, state=states, actions=actions), np.sort(np.concatenate([rows, free]))
        source = FeatureSource(store=store, rows=rows, batch_size=design.batch_size, seed=cell.seed)
        result = train(HeadTraining(policy), source, config, task.folder / "policy", **settings)
    else:
        cache = FrameCache.open(dataset, cameras=sized.window.cameras, image_hw=sized.window.image_hw)
        windows = Windows(dataset, sized.window, episodes=own, cache=cache, stride=design.window_stride)
        num = round(design.batch_size * route.questions)
        batches = WindowBatches(windows, usable(windows, set(own)), design.batch_size - num, cell.seed)
        source = batches
        if num:
            asked = QuestionBatches.of(dataset, sized.window, batch_size=num, seed=cell.seed, episodes=set(own))
            source = CoTraining(robot=batches, language=asked)
        result = train(policy, source, config, task.folder / "policy", **settings)
    policy.to("cpu")
    return policy, [{"step": line.step, **line.losses} for line in result.curve], inverse


def _config(task: StudyTask) -> TrainConfig:
    design = task.design
    steps = design.steps // task.route.num_networks
    return finetuning(
        steps, batch_size=design.batch_size, learning_rate=design.learning_rate, seed=task.cell.seed, num_lines=60
    )


def _planner(space: ActionSpace, seed: int) -> StreamPolicy:
    """The shipped video model; it never saw an action."""
    planner = build(nano_video(), space, seed=seed)
    load_weights_of(planner, SHIPPED)
    return planner


def _inverse(
    task: StudyTask, dataset: LeRobotDataset, labelled: tuple[int, ...], sees: Sees, folder: str
) -> InverseModel:
    """An inverse model trained on the labelled episodes: the arm's own, or a reader of what it imagines."""
    eyes = vision(dataset.space, dataset.cameras)
    store, places = _inverse_store(task, dataset, eyes)
    route = replace(task.route, inverse=sees)
    return train_inverse(
        sees,
        eyes,
        store,
        _rows(places, labelled),
        state=dataset.statistics("state", labelled),
        actions=dataset.statistics("action", labelled),
        recipe=inverse_recipe_of(task.design, route, dataset.space, dataset.cameras),
        folder=task.folder / folder,
        config=_config(task),
    )


def _pseudo(task: StudyTask, dataset: LeRobotDataset, inverse: InverseModel, wanted: Sequence[tuple[int, int]]):
    """Actions and states that the inverse model writes for some windows of action-free episodes."""
    store, places = _inverse_store(task, dataset, inverse.eyes)
    where = {place: row for row, place in enumerate(places)}
    return label(inverse, store, np.array([where[place] for place in wanted]))


# cached features ------------------------------------------------------------------------------------------------------


def _episodes(task: StudyTask) -> tuple[int, ...]:
    """Every episode of which some arm of this study trains on cached features."""
    return (*task.subsets[max(task.subsets)], *task.video, *task.answers)


def _inverse_store(
    task: StudyTask, dataset: LeRobotDataset, eyes: StreamPolicy
) -> tuple[FeatureStore, list[tuple[int, int]]]:
    most = max(size for route in task.design.routes if route.inverse for size in route.labels)
    window = replace(eyes.recipe.window, num_state=dataset.space.num_state)
    return _store(task, dataset, eyes, "inverse", window, (*task.subsets[most], *task.video))


def _store(
    task: StudyTask,
    dataset: LeRobotDataset,
    policy: StreamPolicy,
    name: str,
    window: Window,
    episodes: tuple[int, ...],
) -> tuple[FeatureStore, list[tuple[int, int]]]:
    """A recipe's cached features and the place (episode, frame) of each row."""
    cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw)
    windows = Windows(dataset, window, episodes=episodes, cache=cache, stride=task.design.window_stride)
    every = usable(windows, set(episodes))
    store = build_store(policy, windows, every, task.out / "features" / name, num_draws=1, seed=0, progress=False)
    places = windows.places()
    return store, [places[row] for row in every]


def _rows(places: Sequence[tuple[int, int]], episodes: Sequence[int]) -> np.ndarray:
    wanted = set(episodes)
    return np.array([row for row, (episode, _) in enumerate(places) if episode in wanted])


def read_result(path: Path) -> dict[str, Any]:
    """What ``run`` wrote."""
    return json.loads(path.read_text())
