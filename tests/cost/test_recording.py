"""What a dataset makes of a recipe's cost: the windows that training uses, the words that its tokeniser counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recordings import episodes, write

from crossroads.cost.recording import recording
from crossroads.data.columns import Episodes
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.pilot.cell import usable
from crossroads.pilot.plan import fit
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import recipe


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    """Twelve episodes of 5 to 24 frames, two of them without actions; chunks of 12 do not fit into all."""
    return LeRobotDataset.open(write(tmp_path_factory.mktemp("recording") / "toy", episodes(12)))


def sized(name: str, dataset: LeRobotDataset) -> Recipe:
    return fit(recipe(name), dataset.space, dataset.cameras)


@pytest.mark.parametrize(("name", "phase"), [("pi0", "full"), ("fast_wam", "full"), ("fast_wam", "head")])
def test_an_epoch_has_the_windows_that_training_uses(name: str, phase: str, dataset: LeRobotDataset) -> None:
    chosen = sized(name, dataset)
    video = "video" in chosen.phase(phase).losses
    used = {episode.index for episode in dataset.episodes if video or not episode.action_free}
    windows = Windows(dataset, chosen.window, episodes=sorted(used), cache=None)
    found = recording(dataset, chosen, phase)
    assert found.samples == len(usable(windows, used))
    assert found.episodes == len(used)
    assert (found.episodes == 12) == video, "only a video is learned from episodes without actions"


def test_the_longest_instruction_is_counted_by_the_recipe_s_own_vocabulary(dataset: LeRobotDataset) -> None:
    found = recording(dataset, sized("pi0", dataset), None)
    assert found.words == 3
    assert found.text_tokens == {"text": len("do") + len("thing") + 1}, "words it does not know are spelt in bytes"


def test_a_tokeniser_that_must_be_downloaded_is_not_asked(dataset: LeRobotDataset) -> None:
    assert recording(dataset, recipe("pi0", "published"), "full").text_tokens == {}


def test_an_instruction_longer_than_the_recipe_reads_is_refused(dataset: LeRobotDataset) -> None:
    short = sized("pi0", dataset).vary({"stage.streams.text.codec.max_tokens": 4})
    with pytest.raises(InputError, match="at most 4 tokens"):
        recording(dataset, short, None)


def test_a_dataset_without_actions_cannot_train_a_policy(dataset: LeRobotDataset) -> None:
    columns = replace(dataset.episodes.columns, action_free=np.ones(len(dataset.episodes), bool))
    silent = replace(dataset, episodes=Episodes(columns, dataset.tasks))
    with pytest.raises(InputError, match="expected episodes with actions, got none"):
        recording(silent, sized("pi0", silent), None)
