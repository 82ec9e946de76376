"""The shipped backbones fit every recipe that names them."""

from __future__ import annotations

import pytest
import torch
from nano_batch import ROBOT

from crossroads.backbones.load import load_backbones
from crossroads.build import build
from crossroads.recipes.catalogue import RECIPES

STANDING = [name for name, make in RECIPES.items() if any(tower.backbone for tower in make().stage.towers)]


@pytest.mark.parametrize("name", STANDING)
def test_a_recipe_takes_its_backbone_whole_and_keeps_the_rest(name: str) -> None:
    policy = build(RECIPES[name](), ROBOT, seed=0)
    before = {key: value.clone() for key, value in policy.net.state_dict().items()}
    found = load_backbones(policy)
    stands = {tower.name for tower in policy.recipe.stage.towers if tower.backbone}
    assert found.keys() == {tower.backbone for tower in policy.recipe.stage.towers if tower.backbone}
    places = set(policy.net.weight_names(stands).values())
    after = policy.net.state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    streams = {stream.name for backbone in found for stream in RECIPES[backbone]().stage.streams}
    own = {key for key in places if not key.startswith("codecs.") or key.split(".")[1] in streams}
    weights = {key for key in own if key.endswith("weight") and after[key].ndim >= 2}
    assert weights <= moved <= own


def test_what_stands_beside_the_pictures_starts_as_the_pictures_do() -> None:
    policy = build(RECIPES["lingbot_va"](), ROBOT, seed=0)
    load_backbones(policy)
    weights = policy.net.state_dict()
    pairs = {key: key.replace("beside_", "") for key in weights if "beside_" in key}
    assert len(pairs) == 6
    assert all(torch.equal(weights[key], weights[pictures]) for key, pictures in pairs.items())


def test_frames_under_a_tower_without_a_backbone_take_the_shipped_autoencoder_and_nothing_else() -> None:
    policy, shipped = build(RECIPES["uwm"](), ROBOT, seed=0), build(RECIPES["nano_video"](), ROBOT, seed=0)
    before = {key: value.clone() for key, value in policy.net.state_dict().items()}
    assert load_backbones(policy) == load_backbones(shipped)
    start, wanted = "codecs.video.autoencoder.", shipped.net.state_dict()
    for key, value in policy.net.state_dict().items():
        assert torch.equal(value, wanted[key] if key.startswith(start) else before[key])
