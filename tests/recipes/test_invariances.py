"""What must not change in a vision-language-action policy, whatever else does (nine invariances, every nano recipe to
which they apply)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from every_recipe import close, fresh, part_of, policy_of, prepared_batch, seeded
from nano_batch import nano_batch, statistics
from torch import Tensor

from crossroads.build import build_net, fit_normalisers
from crossroads.chunking import Given, Promised
from crossroads.codecs.discrete_actions import DiscreteActionCodec
from crossroads.codecs.spec import Latent
from crossroads.learner import Prepared
from crossroads.objectives import Flow
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import RECIPES
from crossroads.space import Normaliser
from crossroads.types import Batch

ARMS = [name for name in ("pi0", "pi05", "baseline_ki", "pi0_fast") if name in RECIPES]
FLOWING = [n for n in ARMS if isinstance(RECIPES[n]().stage.stream("action").objective, Flow)]
WRITING = [name for name in FLOWING if "subtask" in RECIPES[name]().phases[0].losses]
SPEAKING = [name for name in ARMS if name not in FLOWING or "fast" in RECIPES[name]().phases[0].losses]
every_arm = pytest.mark.parametrize("name", ARMS)
every_flow = pytest.mark.parametrize("name", FLOWING)


@cache
def prepared(name: str) -> tuple[StreamPolicy, Prepared]:
    policy = policy_of(name)
    policy.enter(policy.recipe.phases[0])
    return policy, prepared_batch(policy)


def losses(policy: StreamPolicy, given: Prepared) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(policy.losses(given, {}).terms)


def showing(given: Prepared, **latents: Latent) -> Prepared:
    return replace(given, latents={**given.latents, **latents})


def with_delays(name: str, delays: tuple[float, ...]) -> StreamPolicy:
    """The same weights, trained with another share of given actions."""
    policy = policy_of(name)
    other = policy.recipe.vary({"stage.streams.action.objective.delays": delays})
    net = build_net(other.stage)
    net.load_state_dict(policy.net.state_dict())
    found = StreamPolicy(other, net, policy.space)
    found.enter(other.phases[0])
    return found


def backbone_gradients(policy: StreamPolicy, given: Prepared) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The flow's loss, and its gradient for every weight of the language model and its codecs."""
    places = set(policy.net.weight_names(["language"]).values())
    weights = {name: weight for name, weight in policy.net.named_parameters() if name in places}
    loss = policy.losses(given, {}).terms["action"]
    found = torch.autograd.grad(loss.mean(), list(weights.values()), allow_unused=True)
    return loss.detach(), dict(zip(weights, found, strict=True))


def test_1_the_flow_gives_the_language_model_no_gradient_unless_the_cut_is_taken_away() -> None:
    policy, given = prepared("baseline_ki")
    stage = policy.recipe.stage
    joined = replace(policy.recipe, stage=replace(stage, edges=tuple(replace(edge, grad=True) for edge in stage.edges)))
    other = fresh(joined)
    other.net.load_state_dict(policy.net.state_dict())
    other.enter(joined.phases[0])
    (loss, cut), (same, through) = backbone_gradients(policy, given), backbone_gradients(other, given)
    assert all(grad is None or not grad.any() for grad in cut.values())
    touched = {name for name, grad in through.items() if grad is not None and grad.any()}
    assert any("codecs.image" in name for name in touched)
    assert any("language.k" in name for name in touched)
    close(loss, same, 1e-6)


def test_2_the_flow_does_not_know_which_actions_are_written_or_whether_any_are() -> None:
    policy, given = prepared("baseline_ki")
    fast, flow = given.latents["fast"], losses(policy, given)["action"]
    shuffled = replace(fast, values=fast.values.flip(1))
    assert torch.equal(losses(policy, showing(given, fast=shuffled))["action"], flow)
    policy.enter(policy.recipe.phase("head"))
    without = losses(policy, part_of(given, policy.groups()))
    policy.enter(policy.recipe.phases[0])
    assert "fast" not in policy.net.layout.needed(["action"])
    close(without["action"], flow)


@every_flow
def test_3_what_the_language_model_makes_of_it_all_does_not_change_with_the_noisy_actions(name: str) -> None:
    policy, given = prepared(name)
    names = frozenset(given.latents)
    noisy = given.latents["action"]
    other = showing(given, action=replace(noisy, values=noisy.values + 1))
    found = []
    with torch.no_grad():
        for shown in (given, other):
            found.append(policy.net(policy.inputs(shown, names, {}), {}))
    groups = policy.net.layout.groups
    said = [group for group in names if groups[group].tower == "language"]
    assert len(said) >= 2
    assert all(torch.equal(found[0][group].hidden, found[1][group].hidden) for group in said)
    assert not torch.equal(found[0]["action"].hidden, found[1]["action"].hidden)


@every_flow
def test_4_a_step_on_the_cached_prefix_is_the_joint_pass(name: str) -> None:
    policy, given = prepared(name)
    needed = policy.net.layout.needed(["action"])
    inputs = policy.inputs(given, needed, {})
    with torch.no_grad():
        joint = policy.net(inputs, {})["action"].hidden
        before = policy.net({group: part for group, part in inputs.items() if group != "action"}, {})
        stepped = policy.net({"action": inputs["action"]}, before)["action"].hidden
    close(stepped, joint, 1e-5)


def questions(policy: StreamPolicy) -> Batch:
    """Pictures with questions: no state, no actions."""
    batch = nano_batch(policy.recipe)
    stateless = replace(batch.obs, state=torch.full_like(batch.obs.state, torch.nan))
    answered = tuple(answer or "no" for answer in batch.answer)
    return replace(batch, obs=stateless, actions_valid=torch.zeros_like(batch.actions_valid), answer=answered)


@pytest.mark.parametrize("name", WRITING)
def test_5_questions_alone_leave_the_expert_as_it_is(name: str) -> None:
    policy, _ = prepared(name)
    found = policy.loss(questions(policy), generator=seeded()).terms
    assert (found["subtask"] > 0).all()
    assert all(not found[other].any() for other in found if other != "subtask")
    policy.zero_grad(set_to_none=True)
    torch.stack(list(found.values())).sum().backward()
    places = set(policy.net.weight_names(["expert"]).values())
    moved = {n for n, weight in policy.net.named_parameters() if weight.grad is not None and weight.grad.any()}
    policy.zero_grad(set_to_none=True)
    assert moved
    assert not moved & places


@every_flow
def test_6_given_actions_owe_nothing_and_no_delay_is_plain_flow(name: str) -> None:
    plain, three = with_delays(name, ()), with_delays(name, (0.0, 0.0, 0.0, 1.0))
    ours, theirs = prepared_batch(plain), prepared_batch(with_delays(name, (1.0,)))
    close(losses(with_delays(name, (1.0,)), theirs)["action"], losses(plain, ours)["action"])
    given = prepared_batch(three)
    clean = three.net.target("action", nano_batch(three.recipe)).values
    assert torch.equal(given.latents["action"].values[:, :3], clean[:, :3])
    assert not given.levels["action"][:, :3].any()
    assert (given.levels["action"][:, 3:] > 0).all()
    owed = given.owed["action"]
    begun = torch.arange(owed.target.shape[1])[:, None] < 3
    other = replace(given, owed={**given.owed, "action": replace(owed, target=torch.where(begun, 7.0, owed.target))})
    assert torch.equal(losses(three, other)["action"], losses(three, given)["action"])
    assert not torch.equal(losses(three, given)["action"], losses(plain, ours)["action"])


@every_flow
def test_6_a_promise_without_delay_changes_nothing_and_one_with_it_is_kept(name: str) -> None:
    policy = with_delays(name, (1.0, 1.0, 1.0, 1.0))
    obs, memory = nano_batch(policy.recipe).obs, policy.start(2)
    promise = policy.space.clamp(0.01 * torch.randn(2, 5, 4, generator=seeded(8)))
    plain = policy.act(obs, memory, generator=seeded())[0].values
    for delay in (0, 3):
        promised = Promised(actions=promise, delay=delay, keep=Given())
        found = policy.act(obs, memory, generator=seeded(), promised=promised)[0].values
        torch.testing.assert_close(found[:, :delay], promise[:, :delay], rtol=0, atol=1e-6)
        assert torch.equal(found, plain) is (delay == 0)


@every_arm
def test_7_what_is_padding_changes_nothing(name: str) -> None:
    """Steps past the end of an episode, a camera that is not there, words behind the end of the prompt."""
    policy, given = prepared(name)
    batch = nano_batch(policy.recipe)
    valid = batch.actions_valid[..., None]
    other = torch.where(valid, batch.actions, torch.rand(batch.actions.shape, generator=seeded()))
    assert not torch.equal(other, batch.actions)
    ours, theirs = (
        losses(policy, policy.prepare(replace(batch, actions=actions), policy.groups(), seeded()))
        for actions in (batch.actions, other)
    )
    for term in ours:
        close(theirs[term], ours[term], 1e-6)
    image = given.latents["image"]
    blind = [replace(image, values=v, valid=torch.zeros_like(image.valid)) for v in (image.values, 255 - image.values)]
    dark, light = (losses(policy, showing(given, image=shown)) for shown in blind)
    text = given.latents["text"]
    rows = len(text.valid)
    longer = Latent(
        values=torch.cat([text.values, torch.full((rows, 3), 5)], dim=1),
        valid=torch.cat([text.valid, torch.zeros(rows, 3, dtype=torch.bool)], dim=1),
    )
    padded, whole = losses(policy, showing(given, text=longer)), losses(policy, given)
    for term in whole:
        assert torch.equal(dark[term], light[term])
        assert not torch.equal(dark[term], whole[term])
        close(padded[term], whole[term], 1e-5)


@pytest.mark.parametrize("name", SPEAKING)
def test_8_actions_in_words_come_back_within_half_a_step_of_every_coefficient(name: str) -> None:
    policy, _ = prepared(name)
    codec = next(part for part in policy.net.codecs.values() if isinstance(part, DiscreteActionCodec))
    batch = nano_batch(policy.recipe, size=4)
    back = codec.decode(codec.target(batch).values)
    bound = (0.5 / codec.spec.tokeniser.scale) * batch.actions.shape[1] ** 0.5  # pyright: ignore
    error = (back - batch.held_actions).abs().max().item()
    assert 0 < error < bound


@every_arm
def test_9_units_come_back_from_the_normaliser(name: str) -> None:
    policy = fresh(RECIPES[name]())
    told = statistics((0.1, -0.2, 0.0, 0.5), (0.02, 3.0, 1e-9, 0.3))
    fit_normalisers(policy, state=told, actions=told)
    found = [module for module in policy.net.modules() if isinstance(module, Normaliser)]
    x = torch.randn(7, 4, generator=seeded())
    assert len(found) == 1 + (name in SPEAKING) + (name in FLOWING)
    for normaliser in found:
        close(normaliser.restore(normaliser.normalise(x)), x, 1e-6)
        assert not torch.equal(normaliser.normalise(x), x)
