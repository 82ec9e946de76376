"""Policies that look back at observed steps and foresee a frame at each: GR-1 and Seer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import close, gradients, policy_of, prepared_batch, seeded
from nano_batch import nano_batch

from crossroads.history import looking_back
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import RECIPES
from crossroads.schedule import Predict
from crossroads.streams import reads
from crossroads.types import Batch, Observation

NAMES = ("gr1", "seer")
every_name = pytest.mark.parametrize("name", NAMES)


def lived(policy: StreamPolicy, batch: Batch) -> list[Observation]:
    """A recorded window as its robot would have lived it: an observation at each step."""
    found = [replace(batch.obs, images={camera: batch.obs.images[camera] for camera in batch.future})]
    for step in range(policy.recipe.stage.looks_back - 1):
        images = {camera: frames[:, step] for camera, frames in batch.future.items()}
        passed = {camera: frames[:, step : step + 1] for camera, frames in batch.future.items()}
        found.append(replace(batch.obs, images=images, state=batch.later_state[:, step], passed=passed))
    return found


def whole_window(policy: StreamPolicy, batch: Batch) -> torch.Tensor:
    """The actions of every step, from one pass over the window as in training: ``b t n a``."""
    prepared = policy.prepare(batch, policy.groups(), seeded())
    with torch.no_grad():
        states = policy.net(policy.inputs(prepared, frozenset(prepared.latents), {}), {})
        actions = policy.net.own_codec("action").decode(policy.net.codec("action").read(states["action"].hidden))  # pyright: ignore
    return policy.space.clamp(actions.unflatten(1, (policy.recipe.stage.looks_back, -1)))


@every_name
def test_acting_step_by_step_is_one_pass_over_the_window(name: str) -> None:
    policy = policy_of(name)
    batch = nano_batch(policy.recipe)
    together, memory = whole_window(policy, batch), policy.start(2)
    seen = lived(policy, batch)
    for step, obs in enumerate(seen):
        chunk, memory = policy.act(obs, memory, generator=seeded())
        close(chunk.values, together[:, step])
    assert not torch.allclose(together[:, -1], policy.act(seen[-1], policy.start(2), generator=seeded())[0].values)


@every_name
def test_the_window_slides_and_rows_that_end_leave_it(name: str) -> None:
    policy = policy_of(name)
    steps = policy.recipe.stage.looks_back
    first, *rest = lived(policy, nano_batch(policy.recipe))
    memory = policy.start(2)
    for obs in (first, *rest, rest[0]):
        _, memory = policy.act(obs, memory, generator=seeded())
    looked = looking_back(rest[1], memory.seen, steps).before
    assert [one.state.tolist() for one in looked] == [one.state.tolist() for one in (rest[-1], rest[0])]
    row = torch.tensor([1])
    alone, _ = policy.act(rest[1].rows(row), memory.rows(row), generator=seeded())
    both, _ = policy.act(rest[1], memory, generator=seeded())
    close(alone.values, both.values[1:])


@every_name
def test_other_words_and_calls_at_other_distances_start_anew(name: str) -> None:
    policy = policy_of(name)
    first, second, *_ = lived(policy, nano_batch(policy.recipe))
    _, memory = policy.act(first, policy.start(2), generator=seeded())
    for obs in (replace(second, passed={}), second.told(("close the drawer", "reach the ball"))):
        after, fresh = (policy.act(obs, start, generator=seeded())[0].values for start in (memory, policy.start(2)))
        assert torch.equal(after, fresh)
    assert policy.passed_s == (policy.recipe.stage.clock.block_s,)


@every_name
def test_steps_behind_the_end_change_nothing_before_it(name: str) -> None:
    policy = policy_of(name)
    batch = nano_batch(policy.recipe)
    ended = replace(batch, future_valid=torch.arange(batch.future_valid.shape[1]).expand(2, -1) < 1)
    changed = {
        camera: torch.cat([frames[:, :1], 255 - frames[:, 1:]], dim=1) for camera, frames in ended.future.items()
    }
    there = policy.prepare(ended, policy.groups(), seeded()).latents
    assert there["text"].valid.tolist() == there["state"].valid.tolist() == [[True, True, False]] * 2
    ours, theirs = (whole_window(policy, one) for one in (ended, replace(ended, future=changed)))
    assert torch.equal(ours[:, :2], theirs[:, :2])
    with torch.no_grad():
        whole, cut = (policy.loss(one, generator=seeded()).terms["video"] for one in (batch, ended))
    assert bool((cut == 0).all()) == (policy.recipe.stage.stream("video").codec.steps.ahead > 1)  # pyright: ignore
    assert bool((whole > 0).all())


def test_the_future_of_gr1_is_dropped_for_free() -> None:
    policy = policy_of("gr1")
    obs = nano_batch(policy.recipe).obs
    stage = replace(policy.recipe.stage, schedule=(Predict(streams=("action", "video")),))
    both = StreamPolicy(replace(policy.recipe, stage=stage), policy.net, policy.space)
    alone, beside = (one.settle(obs, generator=seeded()).streams for one in (policy, both))
    close(alone["action"], beside["action"])
    assert "video" in beside
    assert "video" not in policy.net.layout.needed(["action"])


@pytest.mark.parametrize(("name", "taught"), [("gr1", False), ("seer", True), ("seer_auxiliary", False)])
def test_actions_teach_the_future_only_where_they_read_it(name: str, taught: bool) -> None:
    policy = policy_of(name)
    policy.enter(replace(policy.recipe.phases[0], losses=("action",)))
    found = gradients(policy, prepared_batch(policy))
    policy.enter(policy.recipe.phases[0])
    reached = {weight for weight, grad in found.items() if grad is not None and bool((grad != 0).any())}
    assert ("codecs.video.queries" in {weight.removeprefix("net.") for weight in reached}) == taught
    assert not [weight for weight in reached if ".video.decoder." in weight]


def test_seer_and_its_control_differ_in_one_edge() -> None:
    seer, control = (RECIPES[name]().stage for name in ("seer", "seer_auxiliary"))
    assert set(seer.edges) - set(control.edges) == set(reads("action", "video", when="same"))
    assert replace(seer, edges=control.edges) == control


def test_kinds_of_knowledge_are_blind_to_each_other_and_serve_the_actions_of_their_step() -> None:
    layout = RECIPES["dreamvla"]().stage.layout
    assert "semantics" not in layout.needed(["video"])
    assert "video" not in layout.needed(["semantics"])
    assert {"video", "semantics"} <= layout.needed(["action"])
    assert {edge.when for edge in layout.edges if (edge.dst, edge.src) == ("cognition", "video")} == {"same"}


@torch.no_grad()
def test_what_a_step_knows_moves_the_actions_of_that_step_alone() -> None:
    policy = policy_of("dreamvla")
    prepared = prepared_batch(policy)
    inputs = policy.inputs(prepared, frozenset(prepared.latents), {})
    head = {name: inputs[name] for name in ("action", "slot")}
    states = policy.net(inputs, {})
    read, num = states["cognition"], policy.recipe.chunk.num_actions
    other = replace(read, hidden=torch.cat([read.hidden[:, :-3], -read.hidden[:, -3:]], dim=1))
    usual, changed = (policy.net(head, {"cognition": one})["action"].hidden for one in (read, other))
    close(usual, states["action"].hidden)
    close(changed[:, :-num], usual[:, :-num])
    assert not torch.allclose(changed[:, -num:], usual[:, -num:], atol=1e-3)
