"""pi0.5: its release as openpi and as LeRobot name it, and what its size weighs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crossroads.build import build_net
from crossroads.codecs.pixels import Patches
from crossroads.cost.flops import parameters
from crossroads.errors import InputError
from crossroads.recipe import diff
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.names import pi05_names
from crossroads.recipes.pi05 import pi05
from crossroads.recipes.pi05_sizes import PUBLISHED, VOCABULARY
from crossroads.recipes.release import write_release
from crossroads.recipes.transfer import WRAPPED, Official, export_release, import_release, official, wrapped
from crossroads.towers.gemma import Gemma

SMALL = Gemma(width=16, mlp=24, depth=2, heads=2, kv_heads=1, head_dim=8)
TINY = replace(
    PUBLISHED,
    image=Patches(cameras=("base",), image_hw=(28, 28), patch=14, depth=1, vision_width=12, vision_mlp=16, heads=2),
    text=replace(PUBLISHED.text, vocabulary=replace(VOCABULARY, size=40)),
    action=replace(PUBLISHED.action, num_actions=4, action_size=6),
    language=SMALL,
    expert=replace(SMALL, width=12, adaptive=True),
)
RELEASED = Official(recipe=pi05(TINY), names=pi05_names(TINY), unused=official("pi05").unused)


def all_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


@pytest.mark.parametrize("given", [RELEASED, wrapped(RELEASED)], ids=["openpi", "LeRobot"])
def test_a_release_comes_out_as_it_went_in_whoever_wrote_it(given: Official, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build_net(RELEASED.recipe.stage)
    write_release(net, given.names, tmp_path / "release")
    assert all(name.startswith(WRAPPED) is (given is not RELEASED) for name in all_of(tmp_path / "release"))
    found = import_release(RELEASED, str(tmp_path / "release"), tmp_path / "ours", dtype=torch.float32)
    for (name, ours), (other, theirs) in zip(found.named_parameters(), net.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs)
    export_release(RELEASED, tmp_path / "ours", tmp_path / "back")
    back, came = all_of(tmp_path / "back"), all_of(tmp_path / "release")
    assert back.keys() == came.keys()
    assert all(torch.equal(back[name], came[name]) for name in came)


def test_pi0_is_not_taken_for_it(tmp_path: Path) -> None:
    net = build_net(RELEASED.recipe.stage)
    names = tuple(entry for entry in RELEASED.names if "frame.level" not in entry.ours)
    write_release(net, names, tmp_path / "release")
    with pytest.raises(InputError, match="missing: time_mlp_in"):
        import_release(RELEASED, str(tmp_path / "release"), tmp_path / "ours", dtype=torch.float32)


def test_its_expert_weighs_what_that_of_pi0_does_and_what_the_levels_give_the_norms() -> None:
    """openpi ``gemma_300m``: 311M (arXiv 2410.24164) and 37 norms of 1024 x 3072 more."""
    expert, plain = (parameters(recipe(name, "published")).parts["towers.expert"] for name in ("pi05", "pi0"))
    assert expert - plain == 37 * (1024 * 3072 + 3072 - 1024) + 2 * (1024 * 1024 + 1024)


def test_openpis_release_is_the_same_recipe_without_the_subtask() -> None:
    served = pi05(replace(PUBLISHED, subtask=None))
    served.validate()
    lines = diff(pi05(PUBLISHED), served).splitlines()[1:]
    assert lines
    assert all("subtask" in line or "schedule" in line or "sequence" in line or "losses" in line for line in lines)


def test_the_baseline_is_pi05_with_a_cut_words_for_actions_and_delays() -> None:
    lines = diff(recipe("pi05"), recipe("baseline_ki")).splitlines()[1:]
    told = ("fast", "action <- ", "delays", "sequence", "phases")
    assert lines
    assert all(any(part in line for part in told) for line in lines)
    cut = [line for line in lines if "gradient cut" in line]
    assert len(cut) == 3
