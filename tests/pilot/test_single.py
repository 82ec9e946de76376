"""One recipe on one dataset: phases, prompts of different lengths, questions beside the actions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import moving_blocks

from crossroads.build import build
from crossroads.cost.flops import flops
from crossroads.data.language import EpisodeWords, Question
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.pilot.fitting import fit_to
from crossroads.pilot.plan import fit
from crossroads.pilot.retention import UNTOUCHED, answers_text, ask, write_answers
from crossroads.pilot.single import Training, restore, train_recipe, within_work
from crossroads.recipes.catalogue import recipe
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.stage import Phase
from crossroads.train.feature_making import build_store

SETTINGS = Training(steps=1, batch_size=4)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of the tabletop's shape, with words."""
    path = tmp_path_factory.mktemp("told") / "data"
    rng = np.random.default_rng(0)
    fps = TABLETOP_SPACE.control_hz
    cameras: dict[str, tuple[int, int]] = {"front": (64, 64)}
    asked = tuple(Question(frame=at, camera="front", question="what ?", answer="<x1> <y2>") for at in range(6))
    words = EpisodeWords(subtasks=((0.0, "move to the red ball"),), questions=asked)
    with LeRobotWriter(path, fps=fps, cameras=cameras, space=TABLETOP_SPACE, words=True) as writer:
        for index in range(3):
            writer.add_episode(
                images={"front": moving_blocks(20, (64, 64), rng)},
                state=rng.normal(size=(20, 4)).astype(np.float32) * 10.0**index,  # some numbers take more words
                actions=rng.uniform(-0.01, 0.01, size=(20, 4)).astype(np.float32),
                text="reach the red ball",
                words=words,
            )
    return path


def train(told: Path, out: Path, name: str, **changes: object) -> None:
    train_recipe(name, told, out, Training(**{**vars(SETTINGS), **changes}), progress=False)  # pyright: ignore[reportArgumentType]


def test_a_head_is_trained_on_prompts_of_different_lengths(told: Path, tmp_path: Path) -> None:
    train(told, tmp_path / "run", "pi05")
    assert restore(tmp_path / "run").recipe.name == "pi05"


def test_kept_features_are_as_long_as_the_longest_prompt_of_any_batch(told: Path, tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(told)
    sized = fit(recipe("pi05"), dataset.space, dataset.cameras)
    policy = build(sized, dataset.space, seed=0)
    fit_to(policy, dataset, (0, 1, 2))
    policy.enter(sized.phase("head"))
    windows = Windows(dataset, sized.window, episodes=(0, 1, 2), cache=None, stride=4)
    rows = np.arange(len(windows))
    lengths = {policy.net.observe("text", windows.batch([row]).obs).valid.shape[1] for row in rows.tolist()}
    assert len(lengths) > 1
    store = build_store(policy, windows, rows, tmp_path / "kept", num_draws=1, seed=0, batch_size=1, progress=False)
    states = store.batch(rows, np.zeros(len(rows), int)).states
    assert states["text"].valid.shape[1] == max(lengths)


def test_a_trained_part_that_looks_at_pictures_cannot_be_trained_on_kept_features(told: Path, tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(told)
    whole = fit(recipe("xvla"), dataset.space, dataset.cameras)
    policy = build(whole, dataset.space, seed=0)
    policy.enter(Phase(name="language", trains=("language",), losses=("action",)))
    windows = Windows(dataset, whole.window, episodes=(0,), cache=None)
    with pytest.raises(InputError, match=r"group 'image', which is trained and looks at 'front'.*`full`"):
        build_store(policy, windows, np.arange(2), tmp_path / "kept", num_draws=1, seed=0, progress=False)


def test_a_run_keeps_what_no_backbone_brings_though_it_does_not_train_it(told: Path, tmp_path: Path) -> None:
    """SmolVLA's state stands beside the words of a language model that has none; a seed made its weights."""
    train(told, tmp_path / "run", "smolvla", phase="head", seed=1)
    dataset = LeRobotDataset.open(told)
    sized = fit(recipe("smolvla"), dataset.space, dataset.cameras)
    made = [build(sized, dataset.space, seed=seed) for seed in (0, 1)]
    state = [name for name, _ in made[0].named_parameters() if "codecs.state" in name]
    found, zeroth, first = (policy.state_dict() for policy in (restore(tmp_path / "run"), *made))
    assert state
    assert all(torch.equal(found[name], first[name]) for name in state)
    assert not all(torch.equal(found[name], zeroth[name]) for name in state)


def test_a_phase_that_a_recipe_lacks_is_refused(told: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="haed"):
        train(told, tmp_path / "run", "pi0", phase="haed")


def test_pictures_train_the_same_while_they_are_cached_and_pools_need_no_file(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(pictures: str) -> dict[str, torch.Tensor]:
        monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / pictures))
        train(told, tmp_path / f"run-{pictures}", "act", phase="full", steps=2, pictures=pictures)
        return dict(restore(tmp_path / f"run-{pictures}").state_dict())

    cached, caching, pooled = trained("cached"), trained("caching"), trained("pooled")
    assert all(torch.equal(cached[name], caching[name]) for name in cached)
    assert (tmp_path / "cached" / "frames").is_dir()
    assert not (tmp_path / "pooled" / "frames").exists()
    assert any(not torch.equal(cached[name], pooled[name]) for name in cached)  # another order of the same windows


@pytest.mark.parametrize(("name", "changes"), [("pi05", {}), ("fast_wam", {"phase": "full", "keep_latents": True})])
def test_pools_are_for_phases_that_look_at_pictures(
    told: Path, tmp_path: Path, name: str, changes: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="computed once and kept"):
        train(told, tmp_path / "run", name, pictures="pooled", **changes)


def test_work_in_place_of_steps_is_what_is_counted_of_the_samples(told: Path, tmp_path: Path) -> None:
    sized = fit(recipe("pi0"), LeRobotDataset.open(told).space, ("front",))
    counted = flops(sized).train
    assert counted["head"].total < counted["full"].total
    for phase, sample in counted.items():
        for share in (0.99, 1.01):  # to the nearest step
            work = Training(batch_size=4, tflop=share * 40 * 4 * sample.total / 1e12)
            assert within_work(work, sized, phase).steps == 40
    with pytest.raises(InputError, match="the work of a step or more"):
        within_work(Training(tflop=1e-9), sized, "full")
    settings = Training(batch_size=4, tflop=2 * 4 * counted["head"].total / 1e12)
    assert train_recipe("pi0", told, tmp_path / "run", settings, progress=False).steps == 2


def test_another_phase_or_other_questions_need_another_folder(told: Path, tmp_path: Path) -> None:
    train(told, tmp_path / "run", "baseline_ki", phase="words", questions=told, questions_share=0.5)
    for changes in ({"phase": "full"}, {"phase": "words"}, {"phase": "words", "questions_share": 0.25}):
        given = {"questions": told if "questions_share" in changes else None, **changes}
        with pytest.raises(InputError):
            train(told, tmp_path / "run", "baseline_ki", **given)


def test_a_trained_policy_is_asked_beside_the_language_model_it_started_from(told: Path, tmp_path: Path) -> None:
    train(told, tmp_path / "run", "pi0")  # its head alone: the language model is as it was
    found = ask([tmp_path / "run"], told, num=6)
    assert [row.arm for row in found] == [UNTOUCHED, str(tmp_path / "run")]
    assert {(row.kind, row.right, row.questions) for row in found} == {("place", found[0].right, 6)}
    assert found[1].p_value == 1
    assert "of 6, p 1 against before" in answers_text(found)
    assert json.loads(write_answers(found, tmp_path / "a" / "answers.json").read_text())[1]["questions"] == 6


@pytest.mark.parametrize(
    ("name", "changes"),
    [("pi0", {"phase": "full"}), ("baseline_ki", {"phase": "head"}), ("baseline_ki", {"questions_share": 0.01})],
)
def test_questions_need_someone_who_learns_to_answer(
    told: Path, tmp_path: Path, name: str, changes: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="learns to write answers"):
        train(told, tmp_path / "run", name, questions=told, **{"phase": "full", **changes})
