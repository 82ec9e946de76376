"""ACT: what its style may and may not do."""

from __future__ import annotations

from dataclasses import replace

import torch
from every_recipe import policy_of, seeded
from nano_batch import nano_batch

from crossroads.codecs.resnet import FrozenNorm
from crossroads.recipes.act import act


@torch.no_grad()
def test_acting_takes_no_style_and_draws_nothing() -> None:
    policy = policy_of("act")
    obs = nano_batch(policy.recipe).obs
    one, other = (policy.settle(obs, generator=seeded(seed)).streams for seed in (1, 2))
    assert not one["plan"].any()
    assert torch.equal(one["action"], other["action"])


@torch.no_grad()
def test_training_reads_the_demonstrated_actions_and_acting_cannot() -> None:
    policy = policy_of("act")
    policy.enter(policy.recipe.phases[0])
    batch = nano_batch(policy.recipe)
    told = []
    for actions in (batch.actions, batch.actions.flip(1)):
        prepared = policy.prepare(replace(batch, actions=actions), policy.groups(), seeded())
        told.append(policy.drawn(prepared, {})[0].latents["plan"].values)
    assert not torch.equal(*told)
    reached = policy.net.layout.needed(policy.recipe.stage.outputs())
    assert reached.isdisjoint({"style", "style_action", "style_state"})


def test_more_layers_of_the_decoder_are_a_variant() -> None:
    fixed = act().vary({"stage.towers.decoder.spec.depth": 2})
    assert fixed != act()
    assert fixed.stage.layout.groups.keys() == act().stage.layout.groups.keys()


def test_a_frozen_norm_is_an_evaluated_batch_norm() -> None:
    torch.manual_seed(0)
    ours, theirs = FrozenNorm(3), torch.nn.BatchNorm2d(3).eval()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2.0)
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name != "num_batches_tracked"}
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    assert not list(ours.parameters())
