"""A folder as LeRobot writes it: names behind a prefix, tensors and files of no use to us, words tied or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.fast import Fast
from crossroads.codecs.pixels import Patches
from crossroads.net import StreamNet
from crossroads.recipes import pi0_fast as sizes
from crossroads.recipes.names import pi0_fast_names
from crossroads.recipes.pi0_fast import pi0_fast
from crossroads.recipes.release import write_release
from crossroads.recipes.transfer import (
    HEAD,
    TABLE,
    WRAPPED,
    Official,
    export_release,
    import_release,
    official,
    pi0_fast_apart,
    wrapped,
)
from crossroads.towers.gemma import Gemma

WORDS = replace(sizes.VOCABULARY, size=40)
TINY = replace(
    sizes.PUBLISHED,
    image=Patches(cameras=("base",), image_hw=(28, 28), patch=14, depth=1, vision_width=12, vision_mlp=16, heads=2),
    text=replace(sizes.PUBLISHED.text, vocabulary=WORDS),
    action=replace(sizes.PUBLISHED.action, vocabulary=WORDS, tokeniser=Fast(size=8), last=39),
    language=Gemma(width=16, mlp=24, depth=1, heads=2, kv_heads=1, head_dim=8),
)
APART = pi0_fast_apart(TINY)
TIED = replace(official("pi0_fast"), recipe=pi0_fast(TINY), names=pi0_fast_names(TINY), apart=APART)
STATISTICS = "policy_preprocessor_step_5_normalizer_processor.safetensors"


def written(given: Official, folder: Path) -> dict[str, Tensor]:
    """A release of random weights as LeRobot names them, its tensors by name."""
    torch.manual_seed(0)
    (file,) = write_release(build_net(given.recipe.stage), wrapped(given).names, folder)
    return load_file(file)


def returned(tensors: dict[str, Tensor], folder: Path) -> tuple[StreamNet, dict[str, Tensor]]:
    """The network that these tensors of a release become, and what comes out of it again."""
    save_file(tensors, folder / "release" / "model.safetensors")
    net = import_release(TIED, str(folder / "release"), folder / "ours", dtype=torch.float32)
    export_release(TIED, folder / "ours", folder / "back")
    return net, load_file(folder / "back" / "model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_tensor_of_two_names_is_found_under_either_and_goes_back_under_that(tmp_path: Path) -> None:
    tensors = written(TIED, tmp_path / "release")
    table = tensors.pop(WRAPPED + TABLE)
    tensors[WRAPPED + HEAD] = table
    net, back = returned(tensors, tmp_path)
    assert torch.equal(net.get_parameter("codecs.text.table.weight"), table)
    assert same(back, tensors)


@pytest.mark.parametrize("equal", [True, False])
def test_scores_of_words_have_a_table_of_their_own_only_where_it_differs(equal: bool, tmp_path: Path) -> None:
    tensors = written(APART, tmp_path / "release")
    tensors[WRAPPED + HEAD] = tensors[WRAPPED + TABLE].clone() if equal else tensors[WRAPPED + HEAD]
    net, back = returned(tensors, tmp_path)
    assert ("codecs.text.scores.weight" in dict(net.named_parameters())) is not equal
    assert back.keys() <= tensors.keys()
    assert tensors.keys() - back.keys() == ({WRAPPED + HEAD} if equal else set())
    assert all(torch.equal(value, tensors[name]) for name, value in back.items())


def test_lerobot_gets_back_all_that_it_wrote(tmp_path: Path) -> None:
    tensors = written(TIED, tmp_path / "release")
    tensors[WRAPPED + HEAD] = tensors[WRAPPED + TABLE].clone()
    beside = {"config.json": {"type": "pi0_fast"}, "policy_preprocessor.json": {"name": "policy_preprocessor"}}
    for name, content in beside.items():
        (tmp_path / "release" / name).write_text(json.dumps(content))
    save_file({"observation.state.mean": torch.ones(2)}, tmp_path / "release" / STATISTICS)
    _, back = returned(tensors, tmp_path)
    assert same(back, tensors)
    for name in (*beside, STATISTICS):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "release" / name).read_bytes()
    assert len(list((tmp_path / "back").iterdir())) == 4
