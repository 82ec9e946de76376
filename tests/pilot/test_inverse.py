"""Inverse models: blind to the words, they learn motion from frames, and label cached windows as they read frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nano_batch import ROBOT, nano_batch, statistics

from crossroads.errors import InputError
from crossroads.pilot.inverse import (
    InverseModel,
    Sees,
    StateReader,
    first_frame,
    label,
    motion_recipe,
    reader_parameters,
    scene_recipe,
    train_inverse,
    vision,
)
from crossroads.recipes.catalogue import recipe
from crossroads.train.feature_making import build_store
from crossroads.train.features import FeatureStore
from crossroads.train.optim import finetuning
from crossroads.types import Batch

STATE = statistics((0.0, 0.0, 0.1, 0.5), (0.1, 0.1, 0.05, 0.3))
ACTIONS = statistics((0.0, 0.0, 0.0, 0.5), (0.01, 0.01, 0.01, 0.2))


class Few:
    """Eight windows of random pictures."""

    def __init__(self) -> None:
        self.whole = nano_batch(scene_recipe(ROBOT, ("front",)), size=8)

    def __len__(self) -> int:
        return 8

    def batch(self, indices) -> Batch:
        index = torch.as_tensor(np.asarray(indices))
        whole = self.whole
        obs = replace(
            whole.obs,
            images={name: image[index] for name, image in whole.obs.images.items()},
            state=whole.obs.state[index],
            text=tuple(whole.obs.text[i] for i in index.tolist()),
            robot=whole.obs.robot[: len(index)],
            time_s=whole.obs.time_s[index],
        )
        return replace(
            whole,
            obs=obs,
            actions=whole.actions[index],
            actions_valid=torch.ones_like(whole.actions_valid[index]),
            future={name: frames[index] for name, frames in whole.future.items()},
            future_valid=whole.future_valid[index],
            later_state=whole.later_state[index],
            later_state_valid=whole.later_state_valid[index],
            value=whole.value[index],
            answer=("",) * len(index),
            weight=whole.weight[index],
        )


@pytest.fixture(scope="module")
def eyes():
    return vision(ROBOT, ("front",))


@pytest.fixture(scope="module")
def store(eyes, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("features") / "inverse"
    return build_store(eyes, Few(), np.arange(8), folder, num_draws=1, seed=0, progress=False)


def trained(sees: Sees, eyes, store: FeatureStore, folder: Path, rows=range(6), steps: int = 2) -> InverseModel:
    make = scene_recipe if sees == "scene" else motion_recipe
    return train_inverse(
        sees,
        eyes,
        store,
        np.array(rows),
        state=STATE,
        actions=ACTIONS,
        recipe=make(ROBOT, ("front",)),
        folder=folder,
        config=finetuning(steps, batch_size=4, learning_rate=1e-3, seed=0),
    )


@pytest.mark.parametrize("name", ["inverse_scene", "inverse_motion"])
def test_no_path_leads_from_words_to_actions(name: str) -> None:
    stage = recipe(name).stage
    read = {stage.layout.groups[group].stream.carries for group in stage.layout.needed(["action"])}
    assert "text" not in read
    assert not [stream for stream in stage.streams if stream.carries == "text"]


def test_each_frame_is_looked_at_by_itself(eyes) -> None:
    few = Few().batch(range(2))
    changed = replace(few, future={"front": few.future["front"].flip(0)})
    before, after = (eyes.features(b, generator=torch.Generator())["image"] for b in (few, changed))
    torch.testing.assert_close(first_frame(before), first_frame(after), rtol=0, atol=1e-5)
    assert not torch.allclose(before.hidden, after.hidden, atol=1e-2)


def test_features_for_which_the_disk_has_no_room_leave_nothing_behind(full_disk: None, eyes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"states\.part: expected .* GB free.*choose another --out"):
        build_store(eyes, Few(), np.arange(8), tmp_path / "out" / "features", num_draws=1, seed=0, progress=False)
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()) < 1000  # only notes


def test_features_go_on_where_they_were_cut_off_unless_something_else_is_asked(
    eyes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of two of eight windows; the first is computed again for its shapes. What is looked at beforehand, a
    single window, is not counted."""
    computed: list[int] = []
    features = type(eyes).features

    def counted(self, batch: Batch, **told: object):
        if len(batch.weight) > 1:
            if len(computed) == fails_after:
                raise KeyboardInterrupt
            computed.append(len(batch.weight))
        return features(self, batch, **told)

    def build(folder: str, rows: int = 8, seed: int = 0) -> FeatureStore:
        computed.clear()
        settings = {"num_draws": 1, "seed": seed, "batch_size": 2, "progress": False}
        return build_store(eyes, Few(), np.arange(rows), tmp_path / folder, **settings)

    monkeypatch.setattr(type(eyes), "features", counted)
    fails_after = 2
    for folder in ("cut", "other"):
        with pytest.raises(KeyboardInterrupt):
            build(folder)
        assert not (tmp_path / folder / "meta.json").exists()
    fails_after = 99
    undisturbed = build("whole")
    assert len(computed) == 4
    went_on = build("cut")
    assert len(computed) == 3
    for name, array in undisturbed.arrays.items():
        assert np.array_equal(array, went_on.arrays[name])
    build("other", seed=1)
    assert len(computed) == 4
    build("other", seed=1)
    assert not computed


@pytest.mark.parametrize("sees", ["motion", "scene"])
def test_cached_windows_and_bare_frames_get_the_same_answer(sees: Sees, eyes, store, tmp_path: Path) -> None:
    model = trained(sees, eyes, store, tmp_path)
    actions, states = label(model, store, np.arange(8))
    few = Few().batch(range(8))
    read, places = model.read(few.obs.images["front"], few.future["front"])
    torch.testing.assert_close(
        actions, torch.from_numpy(read), rtol=0, atol=2e-3
    )  # features are kept in half precision
    torch.testing.assert_close(states, torch.from_numpy(places[:, 0]), rtol=0, atol=2e-3)


def test_the_motion_model_sees_nothing_but_the_states_it_read(eyes, store, tmp_path: Path) -> None:
    model = trained("motion", eyes, store, tmp_path)
    seen = model.seen(store.batch(np.arange(2), np.zeros(2, int)))
    assert seen.states == {}
    assert seen.batch.obs.images == {}
    assert seen.batch.obs.state.shape == (2, 5 * 4)


def test_labels_of_windows_that_are_not_its_own_change_nothing(eyes, store, tmp_path: Path) -> None:
    """An inverse model trained on some windows must not depend on what is written beside the others."""
    other = store.labelled(np.array([6, 7]), state=torch.full((2, 4), 9.0), actions=torch.zeros(2, 12, 4))
    ours, theirs = (trained("scene", eyes, s, tmp_path / name) for s, name in ((store, "a"), (other, "b")))
    for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_replaced_labels_are_read_and_the_store_itself_stays_as_it_was(store) -> None:
    before = store.actions.clone()
    found = store.labelled(np.array([1]), state=torch.ones(1, 4), actions=torch.full((1, 12, 4), 0.25))
    batch = found.batch(np.array([1, 2]), np.zeros(2, int)).batch
    assert bool((batch.actions[0] == 0.25).all())
    assert bool((batch.obs.state[0] == 1).all())
    assert torch.equal(batch.actions[1], before[2])
    assert torch.equal(store.actions, before)


def test_a_reader_learns_where_a_bright_token_is() -> None:
    generator = torch.Generator().manual_seed(0)
    width = recipe("nano_vlm").stage.towers[0].spec.width
    reader = StateReader(scene_recipe(ROBOT, ("front",)), statistics((0.0, 0.0), (1.0, 1.0)))
    assert sum(p.numel() for p in StateReader(scene_recipe(ROBOT, ("front",)), STATE).parameters()) == (
        reader_parameters(ROBOT)
    )
    mark = torch.randn(width, generator=generator)

    def error() -> torch.Tensor:
        place = torch.randint(64, (64,), generator=generator)
        tokens = torch.randn(64, 64, width, generator=generator)
        tokens[torch.arange(64), place] += 3 * mark
        return (reader.unit(tokens) - reader.grid[place]).abs().mean()

    optimiser = torch.optim.AdamW(reader.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        error().backward()
        optimiser.step()
    with torch.no_grad():
        assert error() < 0.25  # a guess in the middle is off by 0.57
