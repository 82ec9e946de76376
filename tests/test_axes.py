"""The axes follow from the structure: change an edge, a leg or a tower and they change."""

from __future__ import annotations

from dataclasses import replace

from tiny_stage import EXPERT, tiny_recipe

from crossroads.axes import computed
from crossroads.recipe import Recipe
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm, fast_wam_joint
from crossroads.recipes.nano_video import nano_video
from crossroads.recipes.pi0 import pi0
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Tower
from crossroads.streams import reads


def staged(recipe: Recipe, **changes: object) -> Recipe:
    return replace(recipe, stage=replace(recipe.stage, **changes))  # pyright: ignore[reportArgumentType]


def test_the_paradigm_is_the_path_of_the_schedule() -> None:
    found = [computed(make()).paradigm for make in (fast_wam, fast_wam_idm, fast_wam_joint, pi0)]
    assert found == ["representation_only", "inverse_dynamics", "joint_prediction", "no_future"]


def test_a_future_that_is_imagined_but_not_read_does_not_make_inverse_dynamics() -> None:
    idle = (Denoise(streams=("video",), solver=Euler(steps=1)), Denoise(streams=("action",), solver=Euler(steps=1)))
    assert computed(staged(fast_wam(), schedule=idle)).paradigm == "representation_only"
    read = (*fast_wam().stage.edges, *reads("action", "video"))
    assert computed(staged(fast_wam(), schedule=idle, edges=read)).paradigm == "inverse_dynamics"


def test_the_architecture_is_the_kind_of_edge_between_towers() -> None:
    assert computed(pi0()).architecture == "mixture_of_transformers"
    apart = tuple(edge for edge in pi0().stage.edges if edge.dst not in ("state", "action"))
    across = (*apart, *reads("action", "image", via="cross"), *reads("state", "image", via="cross"))
    assert computed(staged(pi0(), edges=across)).architecture == "hierarchical"


def test_a_text_encoder_is_not_counted_as_a_policy_tower() -> None:
    assert computed(nano_video()).architecture == "monolithic"
    assert computed(tiny_recipe()).architecture == "monolithic"
    stage = tiny_recipe().stage
    streams = tuple(replace(s, tower="body") if s.name == "state" else s for s in stage.streams)
    split = staged(tiny_recipe(), streams=streams, towers=(*stage.towers, Tower(name="body", spec=EXPERT)))
    joined = staged(split, edges=(*(e for e in stage.edges if (e.dst, e.src) != ("action", "state")),))
    assert computed(split).architecture == "mixture_of_transformers"
    assert computed(joined).architecture == "hierarchical"


def test_the_integration_is_the_codec_of_the_actions() -> None:
    assert computed(pi0()).integration == "tokens"
    assert computed(nano_video()).integration == "none"
