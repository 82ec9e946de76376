"""mimic-video: one network acts on a future at any level of noise, and is told which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from every_recipe import policy_of, prepared_batch, seeded
from nano_batch import ROBOT, nano_batch

from crossroads.axes import computed
from crossroads.codecs.mimic_ends import MaskedStateCodec
from crossroads.errors import InputError
from crossroads.interpreter import Interpreter
from crossroads.pilot.arms import dialled, turned
from crossroads.policy import StreamPolicy
from crossroads.recipes.mimic_video import at_level, mimic_video
from crossroads.recipes.mimic_video_sizes import NANO
from crossroads.towers.group import GroupState
from crossroads.train.feature_making import build_store
from crossroads.types import Batch


@pytest.fixture(scope="module")
def policy() -> StreamPolicy:
    return policy_of("mimic_video")


def test_the_dial_changes_the_schedule_and_nothing_else() -> None:
    recipe = mimic_video()
    for level, legs in ((1.0, 1), (0.6, 2), (0.0, 2)):
        turned = at_level(recipe, level)
        assert len(turned.stage.schedule) == legs
        assert replace(turned.stage, schedule=()) == replace(recipe.stage, schedule=())
        assert turned == mimic_video(level=level)
    assert computed(at_level(recipe, 0.6)).paradigm == "inverse_dynamics"
    with pytest.raises(InputError, match="from 0 to 1"):
        at_level(recipe, 1.2)


def test_an_arm_names_a_run_and_perhaps_a_level(policy: StreamPolicy, tmp_path: Path) -> None:
    assert dialled("runs/mimic") == (Path("runs/mimic"), None)
    assert dialled("runs/mimic@0.6") == (Path("runs/mimic"), 0.6)
    (tmp_path / "mine@2").mkdir()
    assert dialled(str(tmp_path / "mine@2")) == (tmp_path / "mine@2", None)
    with pytest.raises(InputError, match="a number behind the @"):
        dialled("runs/mimic@low")
    assert turned(policy, None) is policy
    low = turned(policy, 0.6)
    assert low.net is policy.net
    assert low.recipe == mimic_video(level=0.6)
    with pytest.raises(InputError, match="a run of mimic_video"):
        turned(policy_of("uwm"), 0.6)


@torch.no_grad()
def test_the_video_stops_at_its_level_and_the_actions_hear_it(policy: StreamPolicy) -> None:
    obs, levels = nano_batch(policy.recipe).obs, (1.0, 0.6, 0.0)
    answers, heard = [], []
    for level in levels:
        turned = StreamPolicy(at_level(policy.recipe, level), policy.net, ROBOT)
        run = Interpreter(turned.net, obs, seeded())
        answers.append(run.run(turned.recipe.stage.schedule).streams["action"])
        told = run._input("action").heard
        assert told is not None
        heard.append(told[0, 0].item())
        assert run.levels["video"] == pytest.approx(level)
    assert heard == pytest.approx(levels)
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[1], answers[2])


def test_no_gradient_of_the_actions_reaches_the_video_model(policy: StreamPolicy) -> None:
    policy.enter(policy.recipe.phase("head"))
    for weight in policy.parameters():
        weight.requires_grad_(True)
    prepared = prepared_batch(policy)
    policy.losses(prepared, {}).total.sum().backward()
    video = set(policy.net.weight_names(["video"]).values())
    found = {name: weight.grad for name, weight in policy.net.named_parameters() if name in video}
    assert all(grad is None or not grad.any() for grad in found.values())
    policy.zero_grad(set_to_none=True)


def test_a_state_is_hidden_in_its_share_of_training_samples_and_never_when_acting(policy: StreamPolicy) -> None:
    codec = policy.net.codec("state")
    assert isinstance(codec, MaskedStateCodec)
    obs = nano_batch(policy.recipe, size=2).obs.rows(torch.zeros(500, dtype=torch.long))
    shown = codec.observe(obs)
    assert shown.beside is not None
    assert not shown.beside.any()
    hidden = codec.masked(shown, seeded())
    assert hidden.beside is not None
    assert 0.15 < hidden.beside.mean().item() < 0.25
    tokens = codec.embed(hidden.shown, torch.zeros(500, 1))
    dark = hidden.beside[:, 0, 0] > 0
    assert tokens[dark].unique(dim=0).shape[0] == 1
    torch.testing.assert_close(tokens[~dark], codec.embed(shown.shown, torch.zeros(500, 1))[~dark])


class OneBatch:
    """Two windows."""

    def __init__(self, batch: Batch) -> None:
        self.kept = batch

    def __len__(self) -> int:
        return 2

    def batch(self, indices: object) -> Batch:
        return self.kept


def test_kept_features_hold_the_tapped_layer_and_the_level_of_each_draw(policy: StreamPolicy, tmp_path: Path) -> None:
    policy.enter(policy.recipe.phase("head"))
    windows = OneBatch(nano_batch(policy.recipe))
    store = build_store(policy, windows, np.arange(2), tmp_path / "kept", num_draws=2, seed=0, progress=False)
    found = [store.states(np.arange(2), np.full(2, draw)) for draw in range(2)]
    for states in found:
        assert states["video"].taps.keys() == {NANO.tap}
        assert states["video"].level is not None
    assert not torch.equal(_level(found[0]["video"]), _level(found[1]["video"]))
    again = policy.features(windows.kept, generator=torch.Generator().manual_seed(0))  # the store's first draw
    torch.testing.assert_close(_level(found[0]["video"]), _level(again["video"]))
    torch.testing.assert_close(found[0]["video"].taps[NANO.tap], again["video"].taps[NANO.tap], rtol=1e-2, atol=1e-2)
    kept = store.batch(np.arange(2), np.zeros(2, dtype=np.int64))
    with torch.no_grad():
        ours = policy.loss(kept.batch, generator=seeded(), cached=kept.states).total
        wanted = policy.loss(windows.kept, generator=seeded(), cached=again).total
    torch.testing.assert_close(ours, wanted, rtol=1e-2, atol=1e-2)


def _level(state: GroupState) -> torch.Tensor:
    assert state.level is not None
    return state.level
