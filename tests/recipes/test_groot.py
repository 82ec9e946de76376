"""GR00T N1: which layers read what, weights per robot, time that runs to the data; its published layout of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import policy_of, prepared_batch
from released import goes_in_and_comes_out, weighs_and_works_as_said
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionCodec, GrootEnds
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.scene import QwenVision, SceneFeatures
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import EmbodiedState, StateCodec
from crossroads.cost.flops import parameters
from crossroads.net import StreamNet
from crossroads.parity.recorded import embedded
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.groot_n1 import groot_n15, groot_n17
from crossroads.recipes.groot_names import UNUSED, groot_names
from crossroads.recipes.groot_sizes import N15, N17, GrootSize
from crossroads.recipes.transfer import Official
from crossroads.towers.groot import GrootN1Head
from crossroads.towers.plain import Adapter

ROBOTS = ("arm", "hand")
WIDTH, PICTURED, WORDS = 16, 4, 3
SEEN = SceneFeatures(
    model=QwenVision(source="none", width=WIDTH),
    cameras=("front",),
    image_hw=(64, 64),
    max_words=WORDS,
    apart=True,
    part="image",
    direct=True,
)


def tiny(published: GrootSize) -> GrootSize:
    return replace(
        published,
        image=SEEN,
        text=replace(SEEN, part="words"),
        language=Adapter(width=WIDTH, mlp=24, depth=2, heads=2),
        state=EmbodiedState(num_state=5, hidden=(7,), robots=ROBOTS, activation="relu"),
        future=LearnedTokens(num=2) if published.future else None,
        action=replace(
            published.action,
            num_actions=3,
            action_size=4,
            hidden_out=(7,),
            robots=ROBOTS,
            head=GrootEnds(num_places=9, widened=10),
        ),
        head=GrootN1Head(heads=2, head_dim=6, mlp=20, depth=2, context_width=WIDTH, frequency_width=8),
    )


TINY: dict[str, tuple[GrootSize, Callable[[GrootSize], Recipe]]] = {
    "groot_n15": (tiny(N15), groot_n15),
    "groot_n17": (tiny(N17), groot_n17),
}
every_form = pytest.mark.parametrize("form", sorted(TINY))


def made(form: str) -> StreamNet:
    torch.manual_seed(0)
    size, make = TINY[form]
    return build_net(make(size).stage)


def latents(net: StreamNet, batch: int = 2) -> dict[str, Latent]:
    shapes = {name: net.codec(name).latent_shape(net.group(name).view.kind) for name in net.layout.groups}
    drawn = torch.Generator().manual_seed(4)
    return {name: all_valid(torch.randn(batch, *shape, generator=drawn)) for name, shape in shapes.items()}


@torch.no_grad()
def answered(net: StreamNet, given: dict[str, Latent], robot: tuple[str, ...] = ("arm", "arm")) -> Tensor:
    net.address(robot)
    states = net(embedded(net, given, {"action": torch.full((2, 1), 0.5)}, given), {})
    return net.codec("action").read(states["action"].hidden)


def test_layers_take_turns_between_words_and_pictures_in_the_later_form() -> None:
    layers = {
        edge.src: edge.layers for edge in groot_n17(N17).stage.edges if edge.dst == "action" if edge.via == "cross"
    }
    assert layers == {"text": (0, 2, 4, 6, 8, 10, 12, 14), "image": (1, 3, 5, 7, 9, 11, 13, 15)}
    assert all(edge.layers is None for edge in groot_n15(N15).stage.edges)


@every_form
def test_a_robot_meets_its_own_weights_at_both_ends_and_only_there(form: str) -> None:
    net = made(form)
    given = latents(net)
    alone, mixed = answered(net, given), answered(net, given, ("arm", "hand"))
    torch.testing.assert_close(mixed[0], alone[0], atol=1e-6, rtol=0)
    assert not torch.allclose(mixed[1], alone[1], atol=1e-3)
    banked = {name for name, weight in net.named_parameters() if len(weight) == len(ROBOTS) and "codecs" in name}
    assert {name.split(".")[1] for name in banked if "tokens" not in name} == {"state", "action"}
    assert len([name for name in banked if "tokens" not in name]) == 2 * (2 + 3 + 2)


@pytest.mark.parametrize("robots", [(), ROBOTS])
def test_the_weights_of_ends_that_are_banked_throughout_are_the_stated_ones(robots: tuple[str, ...]) -> None:
    size, _ = TINY["groot_n15"]
    state, action = replace(size.state, robots=robots), replace(size.action, robots=robots)
    for spec, codec in ((state, StateCodec(state, 12)), (action, ActionCodec(action, 12))):
        assert sum(weight.numel() for weight in codec.parameters()) == spec.num_parameters(12)


def test_time_is_told_in_buckets_that_run_to_the_data() -> None:
    """Level 0.2501 is the bucket 749 of 1,000, and so is 0.2509; 0.2499 is the next one."""
    size, _ = TINY["groot_n15"]
    codec = ActionCodec(size.action, 12)
    latent = torch.randn(1, 3, 4)
    tokens = [codec.embed(latent, torch.tensor([[level]])) for level in (0.2501, 0.2509, 0.2499, 1.0005, 0.9999)]
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])
    assert torch.equal(tokens[3], tokens[4])  # a level that is drawn a little above 1 is the first bucket


def test_the_head_learns_alone_while_its_backbone_stands_still() -> None:
    policy = policy_of("groot_n17")
    policy.enter(policy.recipe.phase("head"))
    assert policy.fixed_groups() == {"image", "text"}
    assert prepared_batch(policy).levels["state"].shape == (2, 1)


def test_published_sizes_weigh_what_the_releases_say() -> None:
    """N1.5: about 1.1 B in the trunk, ends and adapter of the 2.7 B release; N1.7 has twice the layers."""
    parts = {name: parameters(recipe(name, "published")).parts for name in ("groot_n15", "groot_n17")}
    assert {name: part["towers.language"] for name, part in parts.items()} == dict.fromkeys(parts, 201_437_184)
    assert parts["groot_n15"]["towers.expert"] == pytest.approx(0.55e9, rel=0.02)
    assert parts["groot_n17"]["towers.expert"] == pytest.approx(2 * 0.55e9, rel=0.02)
    assert parts["groot_n15"]["codecs.future"] == 32 * 1536


def released(form: str) -> Official:
    size, make = TINY[form]
    return Official(recipe=make(size), names=groot_names(size), unused=UNUSED)


@every_form
def test_the_official_layout_goes_in_and_comes_out_again(form: str, tmp_path: Path) -> None:
    given = goes_in_and_comes_out(released(form), tmp_path, ("backbone.eagle_model.mlp1.0.weight",))
    assert given["action_head.state_encoder.layer2.W"].shape == (2, 7, 12)
    assert given["action_head.vl_self_attention.transformer_blocks.1.attn1.to_q.weight"].shape == (WIDTH, WIDTH)
    leave = made(form).get_parameter("codecs.action.leave.layers.1.weight")
    assert torch.equal(given["action_head.action_decoder.layer2.W"], -leave)  # published velocities point to the data


@every_form
def test_weights_and_work_of_the_published_kind_are_the_counted_ones(form: str) -> None:
    """The adapter and the banks, which nano has not."""
    weighs_and_works_as_said(released(form))
