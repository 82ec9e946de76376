"""A release goes into a recipe weight by weight and comes out again as it was; what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from crossroads.build import build_net
from crossroads.cli import main
from crossroads.codecs.published_text import TextFeatures
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.recipes.fast_wam import fast_wam_idm
from crossroads.recipes.fast_wam_sizes import PUBLISHED
from crossroads.recipes.names import fast_wam_names
from crossroads.recipes.release import INDEX, Release, empty_net, load_release, write_release
from crossroads.recipes.transfer import Official, export_release, import_release
from crossroads.towers.given import Given
from crossroads.towers.wan import Wan

WORDS = 8
EXPERT = Wan(width=12, mlp=16, depth=2, heads=2, head_dim=8, rotary=(8,), frequency_width=16, context_width=WORDS)
TINY = replace(
    PUBLISHED,
    text=TextFeatures(source="none", width=WORDS, max_tokens=4),
    text_tower=Given(width=WORDS),
    video_tower=replace(EXPERT, width=20, rotary=(4, 2, 2)),
    expert=replace(EXPERT, modulated_head=False),
)
RELEASED = Official(recipe=fast_wam_idm(TINY), names=fast_wam_names(TINY), unused=(r"lm_head\..*",))


@pytest.fixture
def net() -> StreamNet:
    torch.manual_seed(0)
    return build_net(RELEASED.recipe.stage)


@pytest.fixture
def release(net: StreamNet, tmp_path: Path) -> Path:
    """The official layout in several shards."""
    written = write_release(net, RELEASED.names, tmp_path / "release", shard_bytes=20_000)
    assert len(written) > 2
    return tmp_path / "release"


def all_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def change(folder: Path, shard: int, **tensors: torch.Tensor | None) -> None:
    """Replace, add or (None) remove tensors of one shard, without its index."""
    (folder / INDEX).unlink(missing_ok=True)
    path = sorted(folder.glob("*.safetensors"))[shard]
    kept = {**load_file(path), **{name.replace("__", "."): value for name, value in tensors.items()}}
    save_file({name: value for name, value in kept.items() if value is not None}, path)


def imported(folder: Path, out: Path, dtype: torch.dtype = torch.float32) -> StreamNet:
    return import_release(RELEASED, str(folder), out, dtype=dtype)


def test_a_release_comes_out_as_it_went_in(net: StreamNet, release: Path, tmp_path: Path) -> None:
    found = imported(release, tmp_path / "ours")
    for (name, ours), (other, theirs) in zip(found.named_parameters(), net.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs)
    export_release(RELEASED, tmp_path / "ours", tmp_path / "back")
    back, given = all_of(tmp_path / "back"), all_of(release)
    assert back.keys() == given.keys()
    assert all(torch.equal(back[name], given[name]) for name in given)


def test_the_index_names_the_shard_of_every_tensor_and_no_shard_is_too_large(release: Path) -> None:
    index = json.loads((release / INDEX).read_text())
    for name, file in index["weight_map"].items():
        assert name in load_file(release / file)
    sizes = [sum(t.numel() * 4 for t in load_file(path).values()) for path in release.glob("*.safetensors")]
    assert sum(sizes) == index["metadata"]["total_size"]
    assert max(sizes) <= 20_000
    assert not list(release.glob("*.partial"))


def test_weights_arrive_in_the_precision_asked_for_and_normalisers_change_nothing(
    release: Path, tmp_path: Path
) -> None:
    empty = empty_net(RELEASED.recipe.stage, device="cpu", dtype=torch.bfloat16)
    assert all(parameter.is_meta for parameter in empty.parameters())  # nothing is held twice
    found = imported(release, tmp_path / "ours", torch.bfloat16)
    assert {parameter.dtype for parameter in found.parameters()} == {torch.bfloat16}
    buffers = dict(found.named_buffers())
    assert {name.rpartition(".")[2] for name in buffers} == {"offset", "scale"}
    for name, value in buffers.items():
        assert value.dtype == torch.float32
        assert bool((value == (0 if name.endswith("offset") else 1)).all())


def test_a_missing_weight_an_unexpected_one_and_one_of_another_shape_are_named(release: Path, tmp_path: Path) -> None:
    path = sorted(release.glob("*.safetensors"))[0]
    name, value = next(iter(load_file(path).items()))
    dunder = name.replace(".", "__")
    change(release, 0, **{dunder: None})
    with pytest.raises(InputError, match=f"1 missing: {name}"):
        imported(release, tmp_path / "ours")
    change(release, 0, **{dunder: value.flatten()[:-1].clone()})
    with pytest.raises(InputError, match="shape"):
        imported(release, tmp_path / "ours")
    change(release, 0, **{dunder: value, "surprise": torch.zeros(1)})
    with pytest.raises(InputError, match="1 unexpected: surprise"):
        imported(release, tmp_path / "ours")
    change(release, 0, surprise=None, lm_head__weight=torch.zeros(1))  # known to have no use
    imported(release, tmp_path / "ours")


def test_a_shard_that_is_cut_off_absent_or_repeats_a_tensor_is_named(release: Path, tmp_path: Path) -> None:
    first, second = sorted(release.glob("*.safetensors"))[:2]
    whole = first.read_bytes()
    first.write_bytes(whole[:-7])
    with pytest.raises(InputError, match="00001-of"):
        Release(release)
    first.unlink()
    with pytest.raises(InputError, match="00001-of"):
        Release(release)
    first.write_bytes(whole)
    change(release, 1, **{next(iter(load_file(first))): torch.zeros(1)})
    with pytest.raises(InputError, match="in two files"):
        Release(release)
    assert second.exists()


def test_nothing_changes_in_a_network_that_a_release_does_not_fit(net: StreamNet) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError, match="missing"):
        load_release(net, RELEASED.names, {})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "fast_wan", "--from", "x/y", "--out", "o"], "Did you mean 'fast_wam'"),
        (["import", "cloning", "--from", "x/y", "--out", "o"], "without a release"),
        (["import", "pi0", "--from", "./nowhere", "--out", "o"], "the name of a hub repository"),
        (["import", "pi0", "--from", ".", "--out", "o"], "safetensors files of a release, got none"),
        (["export", ".", "--to", "o"], "crossroads import"),
    ],
)
def test_what_cannot_be_imported_says_why(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_a_killed_import_left_does_not_stand_in_the_way(release: Path, tmp_path: Path) -> None:
    left = tmp_path / "ours.partial"
    left.mkdir()
    (left / "model-00009-of-00009.safetensors").write_bytes(b"half")
    imported(release, tmp_path / "ours")
    assert not left.exists()
    assert len(all_of(tmp_path / "ours")) == len(RELEASED.names)


def test_a_folder_in_use_is_not_written_into(release: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="one in use"):
        imported(release, tmp_path / "ours")
