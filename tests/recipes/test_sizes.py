"""Sizes: what was published is stated as values, weighs what the papers say, and is built as it is counted."""

from __future__ import annotations

import pytest
import torch

from crossroads.axes import computed
from crossroads.build import build_net
from crossroads.cost.flops import flops, parameters
from crossroads.errors import InputError
from crossroads.recipe import diff
from crossroads.recipes import fast_wam_sizes
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.recipes.catalogue import PUBLISHED, RECIPES, recipe, sizes
from crossroads.recipes.fast_wam import fast_wam
from crossroads.recipes.pi0 import pi0
from crossroads.schedule import Rank
from crossroads.stage import Stage

every_published = pytest.mark.parametrize("name", sorted(PUBLISHED))


@every_published
def test_a_published_recipe_is_valid_and_is_what_it_says(name: str) -> None:
    large = recipe(name, "published")
    large.validate()
    assert large.axes == recipe(name).axes
    assert computed(large) == large.axes or large.because
    assert large.departs
    assert large.departs != recipe(name).departs


# What the published network is not shown, and the small one is, because without it it could not know its task.
WITHOUT = {
    **{"diffusion_policy": ("text",), "diffusion_policy_transformer": ("text",)},
    **{"frozen_cloning": ("text",), "uwm": ("text",), "uwm_current": ("text",)},
}


def _legs(stage: Stage) -> list[type]:
    """The kinds of legs; a search may go on for more rounds, so of one each kind counts once."""
    kinds = [type(leg) for leg in stage.schedule]
    searches = any(isinstance(leg, Rank) and leg.best > 1 for leg in stage.schedule)
    return list(dict.fromkeys(kinds)) if searches else kinds


@every_published
def test_both_sizes_of_a_recipe_have_the_same_streams_and_legs(name: str) -> None:
    small, large = recipe(name).stage, recipe(name, "published").stage
    names = [stream.name for stream in small.streams if stream.name not in WITHOUT.get(name, ())]
    assert names == [stream.name for stream in large.streams if stream.name in names]
    more = [stream for stream in large.streams if stream.name not in names]
    assert all(stream.objective is None for stream in more)  # what a nano backbone was never shown
    assert _legs(small) == _legs(large)
    for tower in small.towers:
        assert f"towers.{tower.name}.spec." in diff(recipe(name), recipe(name, "published"))


def test_published_sizes_weigh_what_the_papers_say() -> None:
    """PaliGemma 3B and a 300M expert (arXiv 2410.24164); Wan 2.2 5B and an expert of about 1B (arXiv 2603.16666)."""
    vla, wam = parameters(recipe("pi0", "published")).parts, parameters(recipe("fast_wam", "published")).parts
    language = vla["towers.language"] + vla["codecs.image"] + vla["codecs.text"]
    assert language == pytest.approx(2.92e9, rel=0.01)
    assert vla["towers.expert"] == pytest.approx(311e6, rel=0.01)
    assert wam["towers.video"] + wam["codecs.video"] == pytest.approx(5.0e9, rel=0.01)
    assert wam["towers.expert"] == pytest.approx(1.0e9, rel=0.03)


@pytest.mark.parametrize("name", ["dreamzero", "pi0", "fast_wam"])
def test_a_published_network_has_as_many_weights_as_its_specs_say(name: str) -> None:
    stage = recipe(name, "published").stage
    with torch.device("meta"):
        net = build_net(stage)
    counted = {part: num for part, num in parameters(recipe(name, "published")).parts.items() if "autoenc" not in part}
    assert sum(weight.numel() for weight in net.parameters()) == sum(counted.values())


def test_dreamzero_weighs_and_reads_what_the_paper_says() -> None:
    """Wan 2.1 I2V 14B (arXiv 2503.20314) and ends of two layers; 880 tokens a frame, 9 frames, 4 chunks of 24."""
    large = recipe("dreamzero", "published")
    assert parameters(large).parts["towers.video"] == pytest.approx(16.4e9, rel=0.01)
    groups = large.stage.layout.groups
    tokens = {name: group.stream.codec.num_tokens(group.view.kind) for name, group in groups.items()}
    assert tokens["video.now"] == 880
    assert tokens["video"] == tokens["video.clean"] == 8 * 880
    assert (tokens["action"], tokens["state"], tokens["image"]) == (4 * 24, 4, 257)
    assert (large.chunk.num_actions, large.chunk.chunk_s) == (24, 1.6)


def test_published_sequences_are_as_long_as_the_papers_say() -> None:
    groups = {name: recipe(name, "published").stage.layout.groups for name in ("pi0", "fast_wam")}
    tokens = {
        name: {group: found.stream.codec.num_tokens(found.view.kind) for group, found in of.items()}
        for name, of in groups.items()
    }
    assert tokens["pi0"] == {"image": 3 * 256, "text": 48, "state": 1, "action": 50}
    assert tokens["fast_wam"] == {"text": 128, "state": 1, "video.now": 98, "video": 2 * 98, "action": 32}


def test_imagining_costs_at_least_four_times_as_much_at_published_size() -> None:
    act = {name: flops(recipe(name, "published")).act for name in ("fast_wam", "fast_wam_joint", "fast_wam_idm")}
    without, joint, first = (sum(leg.total for leg in cost.legs) for cost in act.values())
    assert 4 * without < joint < first


def test_nano_is_the_default_size() -> None:
    assert pi0(pi0_sizes.NANO) == pi0() == recipe("pi0") == recipe("pi0", "nano")
    assert fast_wam(fast_wam_sizes.NANO) == fast_wam() == recipe("fast_wam")


def test_an_unknown_size_suggests_the_nearest_and_a_backbone_of_our_own_has_only_one() -> None:
    with pytest.raises(InputError, match=r"recipe 'pi0'.*Did you mean 'published'\?"):
        recipe("pi0", "publishd")
    with pytest.raises(InputError, match=r"recipe 'cloning'.*got 'published'"):
        recipe("cloning", "published")
    assert {name for name in RECIPES if len(sizes(name)) == 2} == set(PUBLISHED)
