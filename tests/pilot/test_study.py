"""Matched experiments: designs are consistent and matched, findings follow the numbers, hidden labels stay hidden."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nano_batch import nano_batch

from crossroads.build import build, fit_tokenisers
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError
from crossroads.evaluate.records import EpisodeRecord
from crossroads.pilot.budget import this_device
from crossroads.pilot.design import Design, study_cells
from crossroads.pilot.designs import DESIGNS, design_of
from crossroads.pilot.plain import from_plain
from crossroads.pilot.study import Study
from crossroads.pilot.study_cell import recipe_of, trainings_of, trials_of
from crossroads.pilot.study_effects import compared, significant, table_of, to_double
from crossroads.pilot.study_found import as_text, study_of
from crossroads.pilot.study_measures import ANSWERS, BEFORE, cell_name
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
    table = plan_of(design, this_device())
    assert table.matched == design.match
    assert {"samples", "steps"} <= set(design.match)
    assert "parameters" in design.match or design.key == "forgetting"  # one arm has no expert to train
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


@pytest.mark.parametrize(
    ("arm", "moves"),
    [
        ("flow only", {"action": True}),
        ("tokens only", {"fast": True}),
        ("both", {"fast": True, "action": True}),
        ("both, insulated", {"fast": True, "action": False}),
        ("both, insulated, with questions", {"subtask": True, "fast": True, "action": False}),
    ],
)
def test_arms_of_forgetting_differ_in_what_moves_the_language_model(arm: str, moves: dict[str, bool]) -> None:
    design = design_of("forgetting", "laptop")
    sized = recipe_of(design, design.route(arm), TABLETOP_SPACE, CAMERAS)
    policy = build(sized, TABLETOP_SPACE, seed=0)
    batch = replace(nano_batch(sized, size=2), answer=("yes", "no"))
    fit_tokenisers(policy, lambda: batch.actions)
    with torch.no_grad():  # gates that start shut let no gradient through
        for parameter in policy.net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    policy.enter(sized.phase(design.route(arm).phase))
    terms = policy.loss(batch, generator=torch.Generator().manual_seed(0)).terms
    assert terms.keys() == moves.keys()
    weight = dict(policy.net.named_parameters())["codecs.image.project.weight"]
    for name, expected in moves.items():
        (found,) = torch.autograd.grad(terms[name].sum(), weight, retain_graph=True, allow_unused=True)
        assert (found is not None and bool(found.any())) == expected, name


def test_right_answers_are_compared_like_successes_and_do_not_raise_the_floor() -> None:
    design = design_of("forgetting", "laptop")
    results = results_of(design, {"both": 0.2, "both, insulated": 0.9}, noise=0.02)
    asked = {"kinds": ["place", "yes or no"] * 20, "before": [1] * 40, "after": [1, 0] * 20}
    for result in results:
        result["conditions"]["success"] = [0] * design.num_trials
        result["asked"] = asked
    found = study(design, results)
    effect = next(each for each in found.effects if (each.name, each.condition) == ("insulation", "answers"))
    assert effect.value > 0.5
    assert (effect.p_value or 1) < 0.05
    assert next(guard for guard in found.guards if guard.name == "floor").status == "fail"
    shares = {(each.name, each.condition): each.value for each in found.measures if each.arm == "both"}
    assert shares == {
        (ANSWERS, "place"): 1.0,
        (ANSWERS, "yes or no"): 0.0,
        (BEFORE, "place"): 1.0,
        (BEFORE, "yes or no"): 1.0,
    }


def test_an_unknown_design_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="grounding"):
        design_of("groundig", "laptop")


def results_of(design: Design, share: dict[str, float], *, noise: float = 0.0, doubled: bool = False) -> list[dict]:
    """Cells whose arms succeed with these probabilities (by arm, or by arm and labels); all scenes alike."""
    found = []
    for index, cell in enumerate(study_cells(design)):
        rng = np.random.default_rng((index, 1))
        p = share.get(f"{cell.route} {cell.labels}", share.get(cell.route, 0.5)) + noise * rng.normal()
        conditions = {c.name: (rng.random(design.num_trials) < p).astype(int).tolist() for c in design.conditions}
        shifts = [{"instruction": name, "relative": 0.5} for name in ("other", "empty")]
        words = {"probe": {"shifts": shifts, "num_states": 60}, "motion": [1, 1, 0, 0], "video": [1, 0, 1, 0]}
        cells = {**asdict(cell), "doubled": doubled, "seconds": 2.0, "conditions": conditions, "words": words}
        found.append(cells)
    return found


def records_of(design: Design, results: list[dict]) -> dict[str, list[EpisodeRecord]]:
    """Trials in which the first thing touched is the named one exactly when the trial succeeds."""
    return {
        cell_name(result): [
            EpisodeRecord(
                arm=result["route"],
                cell=condition.name,
                training_seed=result["seed"],
                seed=scene,
                family="reach",
                text="reach the red cube",
                goal="reach the red cube",
                named_object="red cube",
                num_objects=4,
                swapped=condition.swapped,
                success=bool(success),
                touched=("red cube" if success else "blue cube",),
                achieved=("reach the red cube",) if success else (),
                old_goal_achieved=False,
                num_steps=9,
                latencies_s=(),
            )
            for condition in design.conditions
            for scene, success in enumerate(result["conditions"][condition.name])
        ]
        for result in results
    }


def study(design: Design, results: list[dict]) -> Study:
    records = records_of(design, results)
    return study_of(design, results, records, space=TABLETOP_SPACE, cameras=CAMERAS, device=this_device())


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
        wrong += any(significant(found) for found in compared(design, results))
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


def test_the_interaction_is_the_difference_of_differences() -> None:
    design = replace(design_of("video-loss", "laptop"), num_trials=300)
    found = study(design, results_of(design, {"loss, imagination": 0.9, "no loss, imagination": 0.3}))
    share = {(point.arm, point.condition): point.share for point in found.points}
    crossing = design.crossings[0]
    for effect in (effect for effect in found.effects if effect.name == crossing.name):
        at = {arm: share[arm, effect.condition] for arm in (route.name for route in design.routes)}
        expected = at[crossing.both] - at[crossing.only_first] - at[crossing.only_second] + at[crossing.neither]
        assert effect.value == pytest.approx(expected)
        assert effect.p_value is not None
        assert effect.p_value < 0.05


def test_the_label_multiplier_reads_both_curves_at_the_level_of_the_design() -> None:
    design = replace(design_of("labels", "laptop"), num_trials=2000)
    shares = {"pi0 20": 0.1, "pi0 60": 0.4, "pi0 300": 0.8, "fast_wam_idm 20": 0.4, "fast_wam_idm 60": 0.6}
    found = study(design, results_of(design, {**shares, "fast_wam_idm 300": 0.9}))
    one = next(one for one in found.multipliers if one.name == "WAM instead of VLA, labels alone")
    assert (one.labels, one.level) == ((20, 60, 300), 0.4)
    assert one.low == pytest.approx(3, rel=0.2)
    assert one.interval_low <= 3
    assert one.interval_high is None or one.interval_high >= 3
    assert f"pi0 needs {one.said}, compared with fast_wam_idm" in as_text(found)


def test_convergence_is_compared_run_by_run_and_described_only() -> None:
    design = design_of("grounding", "laptop")
    results = results_of(design, {})
    for result in results:
        speed = 20 if result["route"] == "fast_wam_idm" else 40
        result["losses"] = [{"step": s, "action": 1 + np.exp(-s / speed)} for s in range(1, 400, 3)]
    found = [e for e in study(design, results).effects if e.name.endswith(": WAM instead of VLA")]
    assert [(effect.unit, effect.condition, effect.p_value) for effect in found] == [("times", "100 labels", None)]
    assert found[0].value == pytest.approx(0.5, rel=0.1)


def test_what_would_be_settled_is_trained_twice_as_long_and_nothing_else_is() -> None:
    design = replace(design_of("grounding", "laptop"), num_trials=200)
    good, usual = "pi0 + counterfactual video (motion)", "pi0"
    results = results_of(design, {good: 0.8, usual: 0.1})
    asked = to_double(design, results)
    assert {good, usual} <= {cell.route for cell in asked}
    assert "fast_wam_idm + counterfactual video (motion)" not in {cell.route for cell in asked}
    assert all(cell.doubled and cell.name.endswith("-twice") for cell in asked)
    assert to_double(design, results_of(design, {route.name: 0.5 for route in design.routes})) == ()


def test_an_effect_that_turns_with_twice_the_steps_is_not_settled() -> None:
    design = replace(design_of("grounding", "laptop"), num_trials=200)
    good, usual = "pi0 + counterfactual video (motion)", "pi0"
    results = results_of(design, {good: 0.8, usual: 0.1})
    name = "counterfactual video, VLA (hand)"
    unchecked = study(design, results)
    longer = {"keeps its sign": {good: 0.9, usual: 0.6}, "turns": {good: 0.5, usual: 0.9}}
    for expected, shares in longer.items():
        found = study(design, [*results, *results_of(design, shares, doubled=True)])
        assert {effect.plateau for effect in found.effects if effect.name == name} == {expected}
        values = [[effect.value for effect in one.effects] for one in (found, unchecked)]
        assert values[0] == values[1]
        assert (f"Not settled, because it turns when its arms train twice as long: {name}" in found.finding) == (
            expected == "turns"
        )
    assert next(guard for guard in unchecked.guards if guard.name == "plateau").status == "not checked"


def test_measures_share_out_the_blame_between_video_and_decoder() -> None:
    design = design_of("grounding", "laptop")
    found = study(design, results_of(design, {}))
    of_arm = {m.name: m.value for m in found.measures if m.arm == "fast_wam_idm" and m.condition == "swapped"}
    assert of_arm["video right, decoder wrong"] == of_arm["video wrong, motion right"] == 0.25
    assert of_arm["video wrong, motion follows"] == 0.25
    shares = {(point.arm, point.condition): point.share for point in found.points}
    assert of_arm["first touch on the named object"] == pytest.approx(shares["fast_wam_idm", "swapped"])
    assert "imagined hand to the named thing" in as_text(found)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    design = replace(design_of("grounding", "smoke"), seeds=(0,), execute_steps=12)
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
    task = next(task for task in prepared.tasks if task.cell.route == "fast_wam_idm + counterfactual video (motion)")
    shares: list[float] = []
    result = task.run(shares.append)
    assert shares == sorted(shares)
    assert result["steps"] == prepared.design.steps
    assert set(result["conditions"]) == {"seen pairing", "swapped"}
    assert json.loads(task.result.read_text()) == json.loads(json.dumps(result))
    assert [shift["instruction"] for shift in result["words"]["probe"]["shifts"]] == [
        "other",
        "paraphrase",
        "empty",
        "nonsense",
    ]
    assert len(result["words"]["video"]) == len(result["words"]["motion"]) > 0
    assert 0 <= result["words"]["reader"] <= 1
    assert sorted(path.name for path in task.folder.iterdir()) == ["episodes.jsonl", "inverse", "policy", "result.json"]


def test_what_a_study_writes_is_what_it_found(prepared: StudyRun) -> None:
    results = [json.loads(task.result.read_text()) for task in prepared.tasks if task.result.is_file()]
    found = write_study(prepared, results, this_device())
    assert {measure.arm for measure in found.measures} == {result["route"] for result in results}
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
