"""VLA Foundry's policy: one token tells the head all, and what is handed on is what the language model left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import fresh, gradients, policy_of, prepared_batch, seeded
from nano_batch import nano_batch
from torch.testing import assert_close

from crossroads.codecs.handed import HandedCodec
from crossroads.errors import InputError
from crossroads.parity.recorded import joint_of
from crossroads.recipes.vla_foundry import vla_foundry
from crossroads.recipes.vla_foundry_sizes import NANO
from crossroads.solvers import Strides
from crossroads.streams import Edge
from crossroads.towers.foundry import NUM_WEIGHTS, Foundry, FoundryBlock, FoundryFrame


def test_what_the_head_is_told_are_the_last_states_of_the_probe() -> None:
    policy = policy_of("vla_foundry")
    policy.enter(policy.recipe.phase("full"))
    prepared = prepared_batch(policy)
    inputs = policy.inputs(prepared, frozenset(prepared.latents), {})
    with torch.no_grad():
        states = policy.net(inputs, {})
        codec = policy.net.get_submodule("codecs.told")
        assert isinstance(codec, HandedCodec)
        probe = states["probe"]
        whole = torch.cat([probe.taps[4], probe.hidden], dim=-1)
        row = codec.steps[(inputs["told"].level * 100).round().long()]
        told = codec.enter(torch.cat([row, whole], dim=1))
        head = {name: inputs[name] for name in ("told", "state", "action")}
        again = policy.net(head, {"probe": replace(probe, hidden=probe.hidden + 1)})
        joint = joint_of(policy.net, "head")
        direct = joint.run({**head, "told": replace(inputs["told"], tokens=told)}, {})
    assert_close(direct["action"].hidden, states["action"].hidden)
    assert not torch.equal(again["action"].hidden, states["action"].hidden)


def test_a_cut_value_edge_changes_no_value_and_lets_no_gradient_through() -> None:
    recipe = vla_foundry()
    edges = tuple(replace(edge, grad=edge.via != "value") for edge in recipe.stage.edges)
    policy, cut = fresh(recipe), fresh(replace(recipe, stage=replace(recipe.stage, edges=edges)))
    found = []
    for one in (policy, cut):
        one.enter(one.recipe.phase("full"))
        found.append(gradients(one, prepared_batch(one)))
    whole, none = ({name for name, grad in part.items() if grad is not None and bool(grad.any())} for part in found)
    parts = ("language", "codecs.probe", "codecs.image", "codecs.text")
    behind = {name for name in whole if any(part in name for part in parts)}
    assert behind
    assert whole - none == behind
    batch = nano_batch(recipe)
    with torch.no_grad():
        assert torch.equal(*(one.loss(batch, generator=seeded()).total for one in (policy, cut)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"edges": (Edge(dst="action", src="probe", via="value"),)}, "value edges only between stages"),
        ({"told": replace(NANO.told, num=2)}, "the sources' 1 tokens"),
        ({"told": replace(NANO.told, taps=(6,))}, "taps from 0 to 5"),
        ({"told": replace(NANO.told, sources=("state",))}, "circle|two towers"),
    ],
)
def test_what_cannot_be_handed_on_is_refused(change: dict, match: str) -> None:
    recipe = vla_foundry(replace(NANO, told=change.get("told", NANO.told)))
    stage = replace(recipe.stage, edges=(*recipe.stage.edges, *change.get("edges", ())))
    with pytest.raises(InputError, match=match):
        replace(recipe, stage=stage).validate()


@pytest.mark.parametrize("norm", sorted(NUM_WEIGHTS))
@pytest.mark.parametrize("gated", [True, False])
def test_a_head_of_every_kind_weighs_what_its_sizes_say(norm: str, gated: bool) -> None:
    spec = Foundry(width=8, mlp=12, depth=2, heads=2, norm=norm, gated=gated, norm_heads=gated, norm_in=not gated)  # pyright: ignore[reportArgumentType]
    modules = [FoundryFrame(spec), FoundryBlock(spec), FoundryBlock(spec)]
    assert sum(weight.numel() for module in modules for weight in module.parameters()) == spec.num_parameters()


def test_strides_visit_the_published_steps() -> None:
    """``range(num_steps - 1, 0, -(num_steps // asked))``; with 100 of 100 asked for, 99 are taken."""
    for asked, num, visited in ((10, 100, range(99, 0, -10)), (7, 50, range(49, 0, -7)), (100, 100, range(99, 0, -1))):
        walk = Strides.about(asked, num)
        assert_close(walk.levels()[:-1], torch.tensor(list(visited)) / num)
        assert walk.steps == len(visited)
        ended = walk.solve(torch.zeros(1, 1), lambda x, level: torch.ones(1, 1))
        assert_close(ended, torch.full((1, 1), -walk.steps * walk.taken / num))
    cut = Strides(steps=4, num_steps=8, clip=(-0.25, 0.5)).solve(torch.ones(1, 1), lambda x, level: torch.ones(1, 1))
    assert cut.item() == -0.25
    assert Strides.about(10, 1000) == replace(Strides(steps=10), stride=100)
    assert Strides(steps=10).levels().tolist() == Strides.about(10, 1000).levels().tolist()
