"""What must not change in a vision-language-action policy, whatever else does: nine invariances, each on every nano
recipe to which it applies. To which it does is read from the recipe's streams, edges, objectives and codecs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest
import torch
from every_recipe import close, part_of, policy_of, prepared_batch, seeded
from nano_batch import nano_batch, statistics
from torch import Tensor

from crossroads.build import build_net, fit_normalisers
from crossroads.chunking import Given, Promised
from crossroads.codecs.action_bins import ActionBins
from crossroads.codecs.action_text import ActionText
from crossroads.codecs.discrete_actions import DiscreteActionCodec, DiscreteActions
from crossroads.codecs.fast import Fast
from crossroads.codecs.handed import HandedStates
from crossroads.codecs.soft_actions import SoftActions
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.learner import Prepared
from crossroads.objectives import Flow
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import RECIPES
from crossroads.space import Normaliser
from crossroads.towers.group import GroupState
from crossroads.types import Batch


def acts_by_words(recipe: Recipe) -> bool:
    """Whether pictures and words go through a language model that is trained to act, and no future is foreseen."""
    read = {stream.carries for stream in recipe.stage.streams if stream.tower == "language" and not stream.objective}
    trained = {tower for phase in recipe.phases for tower in phase.trains}
    acts = recipe.window.num_actions > 0 and recipe.axes.paradigm == "no_future"
    return acts and {"image", "text"} <= read and "language" in trained


ARMS = {name: recipe for name, make in RECIPES.items() if acts_by_words(recipe := make())}
CODECS = {name: [stream.codec for stream in recipe.stage.streams] for name, recipe in ARMS.items()}

CUT = [name for name, recipe in ARMS.items() if not all(edge.grad for edge in recipe.stage.edges)]
# A flow: not where actions are words, are regressed (OpenVLA-OFT) or are answered clean (X-VLA).
FLOWING = [name for name, recipe in ARMS.items() if isinstance(recipe.stage.stream("action").objective, Flow)]
SPEAKING = [name for name, codecs in CODECS.items() if any(isinstance(codec, DiscreteActions) for codec in codecs)]
BESIDE = [name for name in FLOWING if name in SPEAKING]
# Something does not read the actions; in OpenVLA-OFT all tokens are one transformer's and read each other.
STAYING = [name for name, recipe in ARMS.items() if recipe.stage.layout.stable(["action"])]
# Words are learned beside actions; where none are, a question about a picture has nothing to teach.
WRITING = [name for name, recipe in ARMS.items() if "subtask" in recipe.phases[0].losses]
# A tower that is told one level for all of its tokens (GR00T's, VLA Foundry's) cannot be given some of them clean.
TOLD = [name for name in FLOWING if any(stream.told == "action" for stream in ARMS[name].stage.streams)]
GIVEN = [name for name in FLOWING if name not in TOLD]
# X-VLA hands on as many tokens of pictures as it has learned places for, so that a camera more is another network.
HANDING = {name: [c for c in codecs if isinstance(c, HandedStates)] for name, codecs in CODECS.items()}
HANDED = [name for name, codecs in HANDING.items() if any("image" in codec.sources for codec in codecs)]
# No codec pads numbers, so that none are padding: data pad them, with zeros. Some numbers are not shown, though.
HIDING = [name for name, codecs in CODECS.items() if any(isinstance(c, SoftActions) and c.unseen for c in codecs)]
every_arm = pytest.mark.parametrize("name", ARMS)


def test_each_invariance_is_held_to_by_the_recipes_that_have_what_it_is_about() -> None:
    assert set(ARMS) >= {*FLOWING, *SPEAKING, "openvla_oft", "xvla"}
    assert len(ARMS) >= 15
    assert CUT == BESIDE == ["baseline_ki", "molmoact2"]
    assert set(ARMS) - set(FLOWING) == {"openvla", "openvla_oft", "pi0_fast", "vlm2vla", "xvla"}
    assert set(SPEAKING) == {"baseline_ki", "molmoact2", "openvla", "pi0_fast", "vlm2vla"}
    assert set(ARMS) - set(STAYING) == {"openvla_oft"}
    assert set(WRITING) == {"baseline_ki", "pi05", "vlm2vla"}
    assert set(TOLD) == {"groot_n15", "groot_n17", "vla_foundry"}
    assert HANDED == HIDING == ["xvla"]


@cache
def _prepared(name: str) -> Prepared:
    return prepared_batch(policy_of(name))


def prepared(name: str) -> tuple[StreamPolicy, Prepared]:
    policy = policy_of(name)
    policy.enter(policy.recipe.phases[0])
    return policy, _prepared(name)


def losses(policy: StreamPolicy, given: Prepared) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(policy.losses(given, {}).terms)


@cache
def whole(name: str) -> Mapping[str, GroupState]:
    """What each group leaves behind when all run at once."""
    policy, given = prepared(name)
    with torch.no_grad():
        return policy.net(policy.inputs(given, frozenset(given.latents), {}), {})


def showing(policy: StreamPolicy, given: Prepared, **latents: Latent) -> Prepared:
    """Other latents; and of a group that is handed states the tokens that count are those of their groups."""
    shown = {**given.latents, **latents}
    for group, latent in given.latents.items():
        codec = policy.net.group(group).stream.codec
        if isinstance(codec, HandedStates):
            read = [shown[source].valid for source in codec.sources]
            valid = torch.cat([latent.valid[:, : codec.more], *read], dim=1)
            shown[group] = Latent(values=torch.zeros(*valid.shape, 0), valid=valid)
    return replace(given, latents=shown)


def rebuilt(policy: StreamPolicy, recipe: Recipe) -> StreamPolicy:
    """The same weights, not a copy of them, under another recipe."""
    with torch.device("meta"):
        net = build_net(recipe.stage)
    net.load_state_dict(policy.net.state_dict(), assign=True)
    found = StreamPolicy(recipe, net, policy.space)
    found.enter(recipe.phases[0])
    return found


def with_delays(name: str, delays: tuple[float, ...]) -> StreamPolicy:
    """Trained with another share of given actions."""
    policy = policy_of(name)
    return rebuilt(policy, policy.recipe.vary({"stage.streams.action.objective.delays": delays}))


def backbone_gradients(policy: StreamPolicy, given: Prepared) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The flow's loss, and its gradient for every weight of the language model and its codecs."""
    places = set(policy.net.weight_names(["language"]).values())
    weights = {name: weight for name, weight in policy.net.named_parameters() if name in places}
    loss = policy.losses(given, {}).terms["action"]
    found = torch.autograd.grad(loss.mean(), list(weights.values()), allow_unused=True)
    return loss.detach(), dict(zip(weights, found, strict=True))


@pytest.mark.parametrize("name", CUT)
def test_1_the_flow_gives_the_language_model_no_gradient_unless_the_cut_is_taken_away(name: str) -> None:
    policy, given = prepared(name)
    stage = policy.recipe.stage
    joined = replace(policy.recipe, stage=replace(stage, edges=tuple(replace(edge, grad=True) for edge in stage.edges)))
    other = rebuilt(policy, joined)
    (loss, cut), (same, through) = backbone_gradients(policy, given), backbone_gradients(other, given)
    assert all(grad is None or not grad.any() for grad in cut.values())
    touched = {name for name, grad in through.items() if grad is not None and grad.any()}
    assert any("codecs.image" in name for name in touched)
    assert any("language.k" in name for name in touched)
    close(loss, same, 1e-6)


@pytest.mark.parametrize("name", BESIDE)
def test_2_the_flow_does_not_know_which_actions_are_written_or_whether_any_are(name: str) -> None:
    policy, given = prepared(name)
    fast, flow = given.latents["fast"], losses(policy, given)["action"]
    shuffled = replace(fast, values=fast.values.flip(1))
    assert torch.equal(losses(policy, showing(policy, given, fast=shuffled))["action"], flow)
    policy.enter(policy.recipe.phase("head"))
    without = losses(policy, part_of(given, policy.groups()))
    assert "fast" not in policy.net.layout.needed(["action"])
    close(without["action"], flow)


@pytest.mark.parametrize("name", STAYING)
def test_3_what_the_language_model_makes_of_it_all_does_not_change_with_the_actions_or_their_noise(name: str) -> None:
    """Actions that are written come after what it makes of the rest."""
    policy, given = prepared(name)
    stays, action = policy.net.layout.stable(["action"]), given.latents["action"]
    levels = {group: level if group in stays else level / 2 for group, level in given.levels.items()}
    other = replace(showing(policy, given, action=replace(action, values=action.values.flip(1))), levels=levels)
    with torch.no_grad():
        found = policy.net(policy.inputs(other, frozenset(given.latents), {}), {})
    said = [group for group in stays & set(found) if policy.net.group(group).tower == "language"]
    assert {"image", "text"} <= set(said)
    assert all(torch.equal(found[group].hidden, whole(name)[group].hidden) for group in said)
    assert not torch.equal(found["action"].hidden, whole(name)["action"].hidden)


@pytest.mark.parametrize("name", STAYING)
def test_4_a_step_on_the_cached_prefix_is_the_joint_pass(name: str) -> None:
    policy, given = prepared(name)
    layout = policy.net.layout
    needed = layout.needed(["action"])
    stays, inputs = needed & layout.stable(["action"]), policy.inputs(given, needed, {})
    with torch.no_grad():
        before = policy.net({group: inputs[group] for group in stays}, {})
        stepped = policy.net({group: inputs[group] for group in needed - stays}, before)
    assert "action" in stepped
    for group in stepped:
        close(stepped[group].hidden, whole(name)[group].hidden, 1e-5)


def questions(policy: StreamPolicy) -> Batch:
    """Pictures with questions: no state, no actions."""
    batch = nano_batch(policy.recipe)
    stateless = replace(batch.obs, state=torch.full_like(batch.obs.state, torch.nan))
    answered = tuple(answer or "no" for answer in batch.answer)
    return replace(batch, obs=stateless, actions_valid=torch.zeros_like(batch.actions_valid), answer=answered)


@pytest.mark.parametrize("name", WRITING)
def test_5_questions_alone_owe_no_actions_and_leave_the_expert_as_it_is(name: str) -> None:
    """VLM2VLA has no expert: its actions, which are written as well, owe nothing."""
    policy, _ = prepared(name)
    found = policy.loss(questions(policy), generator=seeded()).terms
    assert (found["subtask"] > 0).all()
    assert all(not found[other].any() for other in found if other != "subtask")
    policy.zero_grad(set_to_none=True)
    torch.stack(list(found.values())).sum().backward()
    experts = [tower.name for tower in policy.recipe.stage.towers if tower.name != "language"]
    places = set(policy.net.weight_names(experts).values())
    moved = {n for n, weight in policy.net.named_parameters() if weight.grad is not None and weight.grad.any()}
    policy.zero_grad(set_to_none=True)
    assert moved
    assert not moved & places


@pytest.mark.parametrize("name", GIVEN)
def test_6_given_actions_owe_nothing_and_no_delay_is_plain_flow(name: str) -> None:
    plain, none, three = (with_delays(name, delays) for delays in ((), (1.0,), (0.0, 0.0, 0.0, 1.0)))
    ours, given = prepared_batch(plain), prepared_batch(three)
    close(losses(none, prepared_batch(none))["action"], losses(plain, ours)["action"])
    clean = three.net.target("action", nano_batch(three.recipe)).values
    assert torch.equal(given.latents["action"].values[:, :3], clean[:, :3])
    assert not given.levels["action"][:, :3].any()
    assert (given.levels["action"][:, 3:] > 0).all()
    owed = given.owed["action"]
    begun = torch.arange(owed.target.shape[1])[:, None] < 3
    other = replace(given, owed={**given.owed, "action": replace(owed, target=torch.where(begun, 7.0, owed.target))})
    assert torch.equal(losses(three, other)["action"], losses(three, given)["action"])
    assert not torch.equal(losses(three, given)["action"], losses(plain, ours)["action"])


@pytest.mark.parametrize("name", GIVEN)
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


@pytest.mark.parametrize("name", TOLD)
def test_6_a_tower_that_is_told_one_level_is_refused_given_actions(name: str) -> None:
    with pytest.raises(InputError, match="one level for all tokens"):
        ARMS[name].vary({"stage.streams.action.objective.delays": (1.0, 1.0)})


@pytest.mark.parametrize("name", [name for name in ARMS if name not in GIVEN])
def test_6_who_cannot_keep_a_promise_refuses_it(name: str) -> None:
    policy = policy_of(name)
    promised = Promised(actions=torch.zeros(2, 5, 4), delay=1, keep=Given())
    with pytest.raises(InputError, match="promised actions"):
        policy.act(nano_batch(policy.recipe).obs, policy.start(2), generator=seeded(), promised=promised)


@every_arm
def test_7_what_is_padding_changes_nothing(name: str) -> None:
    """Steps past the end of an episode, a camera that is not there, words behind the end of the prompt."""
    policy, given = prepared(name)
    batch, ours = nano_batch(policy.recipe), losses(policy, given)
    valid = batch.actions_valid[..., None]
    other = torch.where(valid, batch.actions, torch.rand(batch.actions.shape, generator=seeded()))
    assert not torch.equal(other, batch.actions)
    theirs = losses(policy, policy.prepare(replace(batch, actions=other), policy.groups(), seeded()))
    image, text = given.latents["image"], given.latents["text"]
    blind = [replace(image, values=v, valid=torch.zeros_like(image.valid)) for v in (image.values, 255 - image.values)]
    dark, light = (losses(policy, showing(policy, given, image=shown)) for shown in blind)
    rows = len(text.valid)
    behind = Latent(values=torch.full((rows, 3), 5), valid=torch.zeros(rows, 3, dtype=torch.bool))
    padded = losses(policy, showing(policy, given, text=text.then(behind)))
    for term in ours:
        close(theirs[term], ours[term], 1e-6)
        assert torch.equal(dark[term], light[term])
        assert not torch.equal(dark[term], ours[term])
        close(padded[term], ours[term], 1e-5)


@pytest.mark.parametrize("name", [name for name in ARMS if name not in HANDED])
def test_7_a_camera_that_is_not_there_takes_no_place(name: str) -> None:
    policy, given = prepared(name)
    cameras = policy.recipe.window.cameras
    two = rebuilt(policy, policy.recipe.vary({"stage.streams.image.codec.cameras": (*cameras, "gone")}))
    image, ours = given.latents["image"], losses(policy, given)
    absent = Latent(values=255 - image.values, valid=torch.zeros_like(image.valid))
    present = replace(absent, valid=image.valid)
    without, both = (losses(two, showing(two, given, image=image.then(one))) for one in (absent, present))
    for term in ours:
        close(without[term], ours[term], 1e-5)
        assert not torch.equal(both[term], ours[term])


@pytest.mark.parametrize("name", HIDING)
def test_7_numbers_that_are_not_shown_change_nothing(name: str) -> None:
    policy, given = prepared(name)
    codec, noisy, ours = policy.recipe.stage.stream("action").codec, given.latents["action"], losses(policy, given)
    assert isinstance(codec, SoftActions)
    assert noisy.beside is not None
    for columns, same in ((list(codec.unseen), True), ([0], False)):
        values, beside = noisy.values.clone(), noisy.beside.clone()
        values[..., columns] += 1
        beside[..., columns] += 1
        found = losses(policy, showing(policy, given, action=replace(noisy, values=values, beside=beside)))
        assert torch.equal(found["action"], ours["action"]) is same


def half_a_step(codec: DiscreteActions) -> float:
    """Half of what lies between two numbers that can be written; of FAST's, one coefficient's share of each action."""
    match codec.tokeniser:
        case Fast(scale=scale):
            return 0.5 / scale * codec.num_actions**0.5
        case ActionBins(size=size):
            return 1 / (size - 1)
        case ActionText(per_unit=per_unit):
            return 0.5 / per_unit
    raise AssertionError(f"no bound for {codec.tokeniser}")


@pytest.mark.parametrize("name", SPEAKING)
def test_8_actions_in_words_come_back_within_half_a_step(name: str) -> None:
    policy = policy_of(name)
    codec = next(part for part in policy.net.codecs.values() if isinstance(part, DiscreteActionCodec))
    batch = nano_batch(policy.recipe, size=4)
    back = codec.decode(codec.target(batch).values)
    error = (back - batch.held_actions).abs().max().item()
    assert 0 < error < half_a_step(codec.spec) + 1e-6


@every_arm
def test_9_units_come_back_from_the_normaliser(name: str) -> None:
    policy = copy.deepcopy(policy_of(name))
    told = statistics((0.1, -0.2, 0.0, 0.5), (0.02, 3.0, 1e-9, 0.3))
    fit_normalisers(policy, state=told, actions=told)
    found = [module for module in policy.net.modules() if isinstance(module, Normaliser)]
    x = torch.randn(7, 4, generator=seeded())
    kinds = [vars(codec)["normaliser"] for codec in CODECS[name] if "normaliser" in vars(codec)]
    states = [codec for codec in CODECS[name] if isinstance(codec, SoftActions) and codec.num_state]
    assert len(found) == len(kinds) + len(states)
    for normaliser in found:
        close(normaliser.restore(normaliser.normalise(x)), x, 1e-6)
        assert torch.equal(normaliser.normalise(x), x) is (set(kinds) == {"none"})
