"""Matched experiments: designs are consistent and matched, findings follow the numbers, hidden labels stay hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError
from crossroads.pilot.budget import this_processor
from crossroads.pilot.design import DESIGNS, Design, design_of, study_cells
from crossroads.pilot.plain import from_plain
from crossroads.pilot.study import Study
from crossroads.pilot.study_cell import trainings_of, trials_of
from crossroads.pilot.study_found import as_text, study_of, table_of
from crossroads.pilot.study_run import StudyRun, plan_of, prepare_study, write_study
from crossroads.recipes.nano import CAMERAS
from crossroads.sim.tabletop.env import TABLETOP_SPACE, TabletopEnv

every_design = pytest.mark.parametrize(
    "design", [design for known in DESIGNS.values() for design in known.values()], ids=lambda d: f"{d.key}-{d.steps}"
)


@every_design
def test_contrasts_name_arms_that_share_a_number_of_labels(design: Design) -> None:
    for contrast in design.contrasts:
        assert set(design.route(contrast.first).labels) & set(design.route(contrast.second).labels)
    names = [cell.name for cell in study_cells(design)]
    assert len(set(names)) == len(names)


@every_design
def test_all_arms_are_equal_in_summed_samples_steps_and_parameters(design: Design) -> None:
    table = plan_of(design, this_processor())
    assert table.matched == ("samples", "steps", "parameters")
    assert {row.planned.steps for row in table.rows} == {design.steps}


def test_an_arm_with_an_inverse_model_splits_the_steps_between_its_networks() -> None:
    design = design_of("labels", "laptop")
    for route in design.routes:
        found = trainings_of(design, route, TABLETOP_SPACE, CAMERAS)
        assert len(found) == route.num_networks
        assert all(training.steps * len(found) == design.steps for training in found)


def test_video_loss_arms_differ_in_the_loss_and_in_nothing_else_that_is_trained() -> None:
    design = design_of("video-loss", "laptop")
    with_loss, without = (
        trainings_of(design, design.route(name), TABLETOP_SPACE, CAMERAS)[0]
        for name in ("loss, no imagination", "no loss, no imagination")
    )
    assert with_loss.recipe.stage == without.recipe.stage
    assert with_loss.recipe.phase("full").trains == without.recipe.phase("full").trains
    assert with_loss.recipe.phase("full").losses == ("video", "action")
    assert without.recipe.phase("full").losses == ("action",)


def test_an_unknown_design_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="grounding"):
        design_of("groundig", "laptop")


def results_of(design: Design, share: dict[str, float], *, noise: float = 0.0) -> list[dict]:
    """Cells whose arms succeed with these probabilities on scenes of equal difficulty."""
    found = []
    for index, cell in enumerate(study_cells(design)):
        rng = np.random.default_rng((index, 1))
        p = share.get(cell.route, 0.5) + noise * rng.normal()
        conditions = {c.name: (rng.random(design.num_trials) < p).astype(int).tolist() for c in design.conditions}
        found.append(
            {"route": cell.route, "labels": cell.labels, "seed": cell.seed, "seconds": 2.0, "conditions": conditions}
        )
    return found


def study(design: Design, results: list[dict]) -> Study:
    return study_of(design, results, space=TABLETOP_SPACE, cameras=CAMERAS, device=this_processor())


def test_a_large_effect_is_settled_and_named_in_the_finding_with_its_sign() -> None:
    design = replace(design_of("grounding", "laptop"), num_trials=200)
    found = study(design, results_of(design, {"pi0": 0.1, "pi0 + counterfactual video (motion)": 0.8}))
    effect = next(e for e in found.effects if e.name == "counterfactual video, VLA (hand)")
    assert effect.value > 0.5
    assert effect.p_value is not None
    assert effect.p_value < 0.05
    assert "Settled at p <= 0.05" in found.finding
    assert "counterfactual video, VLA (hand), swapped: +" in found.finding


def test_equal_arms_settle_nothing_in_most_experiments() -> None:
    design = design_of("grounding", "laptop")
    wrong = 0
    for start in range(40):
        results = results_of(design, {}, noise=0.03)
        rng = np.random.default_rng(start)
        for result in results:
            result["conditions"] = {
                name: rng.permutation(values).tolist() for name, values in result["conditions"].items()
            }
        found = study(design, results)
        wrong += any(e.p_value is not None and e.p_value <= 0.05 for e in found.effects)
    assert wrong <= 4


def test_an_arm_with_a_missing_seed_is_left_out_and_the_finding_says_so() -> None:
    design = design_of("grounding", "laptop")
    results = [r for r in results_of(design, {}) if not (r["route"] == "fast_wam_idm" and r["seed"] == 2)]
    assert not [key for key in table_of(results, design) if key[0] == "fast_wam_idm"]
    found = study(design, results)
    assert found.finding.startswith("Not every cell has run")
    assert not [effect for effect in found.effects if "fast_wam_idm" in (effect.first, effect.second)]


def test_a_study_without_results_says_that_nothing_can_be_said() -> None:
    found = study(design_of("labels", "laptop"), [])
    assert found.finding.startswith("Nothing can be said")
    assert found.points == ()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    design = replace(design_of("grounding", "smoke"), seeds=(0,))
    return prepare_study(tmp_path_factory.mktemp("study") / "grounding", design, num_workers=0)


def test_action_free_episodes_hold_no_actions_and_the_ceilings_copies_the_same_scenes(prepared: StudyRun) -> None:
    dataset = LeRobotDataset.open(prepared.data)
    task = prepared.tasks[0]
    assert [episode.index for episode in dataset.episodes if episode.action_free] == list(task.video)
    for hidden, shown in zip(task.video, task.answers, strict=True):
        assert dataset.episodes[hidden].text == dataset.episodes[shown].text
        assert not dataset.actions(hidden).any()
        assert not dataset.state(hidden).any()
        assert dataset.actions(shown).any()


def test_labelled_scenes_give_their_instruction_away_and_swapped_trials_do_not(prepared: StudyRun) -> None:
    design = prepared.design
    env = TabletopEnv(families=design.families, cameras=(), pairing="leftmost")
    dataset = LeRobotDataset.open(prepared.data)
    part = next(part for part in design.parts if part.role == "labels")
    for offset in range(4):
        env.reset(seed=part.first_seed + offset)
        leftmost = min(env.world.layout.things, key=lambda t: (t.name not in {x.target for x in env.valid_tasks}, t.x))
        assert env.task.target == leftmost.name
        assert dataset.episodes[offset].text == env.task.text
    assert [trials_of(design, condition).swapped for condition in design.conditions] == [False, True]


def test_a_cell_labels_video_trains_and_is_not_run_again(prepared: StudyRun) -> None:
    task = next(task for task in prepared.tasks if task.route.inverse == "motion")
    shares: list[float] = []
    result = task.run(shares.append)
    assert shares == sorted(shares)
    assert result["steps"] == prepared.design.steps
    assert set(result["conditions"]) == {"seen pairing", "swapped"}
    assert json.loads(task.result.read_text()) == result
    assert sorted(path.name for path in task.folder.iterdir()) == ["episodes.jsonl", "inverse", "policy", "result.json"]


def test_what_a_study_writes_is_what_it_found(prepared: StudyRun) -> None:
    found = write_study(prepared, results_of(prepared.design, {}), this_processor())
    read = from_plain(Study, json.loads((prepared.out / "study.json").read_text(encoding="utf-8")))
    assert read == found
    assert found.finding in as_text(found)


def test_a_folder_of_another_study_is_refused_and_left_alone(prepared: StudyRun) -> None:
    before = (prepared.out / "study-plan.json").read_text()
    with pytest.raises(InputError, match="another study"):
        prepare_study(prepared.out, design_of("labels", "smoke"), num_workers=0)
    assert (prepared.out / "study-plan.json").read_text() == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing was changed"):
        prepare_study(tmp_path, design_of("labels", "smoke"), num_workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
