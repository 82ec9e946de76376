"""Being-H0.5: who reads whom when every token reads those before it, and a published size whose weights have names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of, prepared_batch
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.intern_pictures import InternPictures
from crossroads.cost.flops import parameters
from crossroads.learner import Prepared
from crossroads.policy import StreamPolicy
from crossroads.recipes.being_h05_names import being_h05_names
from crossroads.recipes.being_h05_sizes import PUBLISHED
from crossroads.recipes.catalogue import recipe
from crossroads.towers.qwen import Qwen


@torch.no_grad()
def hidden(policy: StreamPolicy, given: Prepared) -> dict[str, Tensor]:
    """Final states of every group."""
    states = policy.net(policy.inputs(given, frozenset(given.latents), {}), {})
    return {name: state.hidden for name, state in states.items()}


@pytest.mark.parametrize("name", ["image", "state", "action"])
def test_a_token_changes_none_before_it_and_all_after_it(name: str) -> None:
    policy = policy_of("being_h05")
    policy.enter(policy.recipe.phase("full"))
    given = prepared_batch(policy)
    latent, before = given.latents[name], hidden(policy, given)
    values = latent.values.clone()
    if name == "image":
        values[:, :, -1, -1] = 255 - values[:, :, -1, -1]  # the vision transformer sees all of a picture
    else:
        values[:, -1] += 1.0
    after = hidden(policy, replace(given, latents={**given.latents, name: replace(latent, values=values)}))
    order = list(policy.recipe.stage.sequence)
    at = order.index(name)
    for other in order[:at]:
        assert torch.equal(before[other], after[other])
    for other in order[at:]:
        changed = (before[other] - after[other]).abs().amax(dim=-1)
        last = changed[:, -1] if other == name else changed[:, 0]
        assert (last > 0).all(), other
        if other == name and name != "image":
            assert (changed[:, :-1] == 0).all()


def test_the_published_network_has_the_names_of_the_release() -> None:
    assert isinstance(PUBLISHED.language, Qwen)
    assert isinstance(PUBLISHED.image, InternPictures)
    large = recipe("being_h05", "published")
    with torch.device("meta"):
        net = build_net(large.stage)
    weights = {
        public
        for public, own in net.weight_names({"language", "expert"}).items()
        if own in dict(net.named_parameters())
    }
    names = being_h05_names(PUBLISHED.language, PUBLISHED.image, tied=PUBLISHED.text.tied)
    assert {entry.ours for entry in names} == weights
    assert sum(weight.numel() for weight in net.parameters()) == sum(parameters(large).parts.values())


def test_the_published_size_is_what_it_is_made_of() -> None:
    """InternViT-300M, Qwen3-1.7B and the layers of Qwen3-0.6B (arXiv 2508.18265, 2505.09388)."""
    parts = parameters(recipe("being_h05", "published")).parts
    assert parts["codecs.image"] == pytest.approx(304e6 + 12.6e6, rel=0.01)
    assert parts["towers.language"] + parts["codecs.text"] == pytest.approx(1.72e9, rel=0.01)
    assert parts["towers.expert"] == pytest.approx(440e6, rel=0.01)
