"""The properties that every recipe passes (architecture, section 7): one file, all recipes, nano size, CPU.

What we train is what we run; what we say is what it is; what it costs is known; nothing depends on the order in which
a recipe is written down. ``nano_batch`` gives the data.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import brief, close, fresh, gradients, hasty, part_of, policy_of, prepared_batch, seeded
from nano_batch import ROBOT, nano_batch, statistics
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.axes import computed
from crossroads.build import build, fit_normalisers
from crossroads.codecs.blank_actions import BlankActions
from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.cost.flops import flops, parameters
from crossroads.cost.show import show
from crossroads.interpreter import Interpreter
from crossroads.objectives import Regress, TokenCE
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import RECIPES
from crossroads.schedule import Decode, Draw, moved
from crossroads.stage import Phase
from crossroads.towers.attend import Dense, Flex, Sdpa

# A recipe that differs from another in its schedule alone trains as that one does.
TRAINED = {replace(make().stage, schedule=()): name for name, make in reversed(list(RECIPES.items()))}
PHASES = [(name, phase.name) for name in sorted(TRAINED.values()) for phase in RECIPES[name]().phases]
ACTING = [name for name, make in RECIPES.items() if make().window.num_actions]
WRITING = [n for n, make in RECIPES.items() if any(isinstance(leg, Decode) for leg in make().stage.schedule)]
# One network for each set of kinds of joint edges: what a mask is made of (FlexAttention takes long on CPU).
MASKED = {
    frozenset((edge.when, edge.window is not None) for edge in RECIPES[name]().stage.edges if edge.via == "joint"): name
    for name in sorted(TRAINED.values(), reverse=True)
}
every_recipe = pytest.mark.parametrize("name", sorted(RECIPES))
every_net = pytest.mark.parametrize("name", sorted(TRAINED.values()))
every_phase = pytest.mark.parametrize(("name", "phase"), PHASES)


# What we train is what we run


@every_recipe
def test_cached_equals_full(name: str) -> None:
    policy = policy_of(name)
    obs = nano_batch(policy.recipe).obs
    cached = policy.settle(obs, generator=seeded()).streams
    full = policy.settle(obs, generator=seeded(), caching=False).streams
    assert set(cached) == {stream for leg in policy.recipe.stage.schedule for stream in moved(leg)}
    for stream in full:
        close(cached[stream], full[stream])


class Recording(Interpreter):
    """An interpreter that keeps the scores of each token it wrote."""

    seen: list[Tensor]

    def _scores(self, name: str) -> Tensor:
        scores = super()._scores(name)
        self.seen.append(scores)
        return scores


@pytest.mark.parametrize("name", WRITING)
@torch.no_grad()
def test_incremental_equals_teacher_forced(name: str) -> None:
    policy = policy_of(name)
    stage = policy.recipe.stage
    leg = next(leg for leg in stage.schedule if isinstance(leg, Decode))
    batch = nano_batch(policy.recipe)
    interpreter = Recording(policy.net, batch.obs, seeded())
    interpreter.seen = []
    interpreter.run((leg,))
    read = interpreter.latents[leg.stream]
    assert read.values.shape[1] == len(interpreter.seen) > 3
    policy.enter(next(phase for phase in policy.recipe.phases if leg.stream in phase.losses))
    prepared = policy.prepare(batch, policy.groups(), seeded())
    prepared = replace(prepared, latents={**prepared.latents, leg.stream: read})
    states = policy.net(policy.inputs(prepared, frozenset(prepared.latents), {}), {})
    together = policy.net.codec(leg.stream).read(states[leg.stream].hidden)
    one_by_one = torch.cat(interpreter.seen, dim=1)
    close(one_by_one[read.valid], together[read.valid])


@every_phase
def test_cached_features_give_the_same_loss(name: str, phase: str) -> None:
    policy = policy_of(name)
    policy.enter(policy.recipe.phase(phase))
    prepared, fixed = prepared_batch(policy), policy.fixed_groups()
    with torch.no_grad():
        states = policy.net(policy.inputs(part_of(prepared, fixed), fixed, {}), {})
        whole = policy.losses(prepared, {}).terms
        rest = policy.losses(part_of(prepared, policy.groups() - fixed), states).terms
    assert set(whole) == set(policy.phase.losses) == set(rest)
    for stream, loss in whole.items():
        close(rest[stream], loss)


@every_phase
def test_loss_reads_features_where_the_fixed_groups_draw_no_noise(name: str, phase: str) -> None:
    """The public path. Where fixed groups draw noise the draws come from another generator state, so there the loss
    differs by design: the test above compares those with equal draws."""
    policy = policy_of(name)
    policy.enter(policy.recipe.phase(phase))
    groups = policy.net.layout.groups
    if any(groups[fixed].view.kind == "noised" or groups[fixed].view.noised_share for fixed in policy.fixed_groups()):
        pytest.skip("fixed groups hold noise")
    batch = nano_batch(policy.recipe)
    with torch.no_grad():
        whole = policy.loss(batch, generator=seeded()).total
        cached = policy.loss(batch, generator=seeded(), cached=policy.features(batch, generator=seeded(9))).total
    close(cached, whole)


# What we say is what it is


@every_recipe
def test_axes_are_as_stated_or_the_recipe_says_why(name: str) -> None:
    recipe = RECIPES[name]()
    assert computed(recipe) == recipe.axes or recipe.because


@every_recipe
def test_posterior_groups_are_out_of_reach_when_acting(name: str) -> None:
    stage = RECIPES[name]().stage
    layout = stage.layout
    reached = layout.needed(stage.outputs())
    assert reached >= set(stage.outputs())
    assert not [group for group in reached if layout.groups[group].view.kind == "posterior"]


def owner(recipe: Recipe, parameter: str) -> str | None:
    """The tower to which a parameter belongs, by its name; None for an autoencoder's."""
    parts = parameter.split(".")
    if ".autoencoder." in parameter:
        return None
    if parts[1] == "codecs":
        return recipe.stage.stream(parts[2]).tower
    if parts[3] == "modulators":
        return parts[4].split("__")[0]
    return parts[parts.index("frames" if "frames" in parts else "blocks") + 1]


def _reached(recipe: Recipe, phase: Phase, stream: str) -> bool:
    layout = recipe.stage.layout
    sharing = {stream, *(other.name for other in recipe.stage.streams if other.shares == stream)}
    return bool(sharing & {layout.groups[name].stream.name for name in layout.needed(phase.losses)})


def may_be_idle(recipe: Recipe, phase: Phase, parameter: str) -> bool:
    """Whether a trained weight sits behind the last keys and values of a tower whose hidden states nobody uses."""
    layout = recipe.stage.layout
    tower = owner(recipe, parameter)
    answered = {layout.groups[name].tower for name in phase.losses}
    answered |= {layout.groups[edge.src].tower for edge in layout.edges if edge.via != "joint" and edge.tap is None}
    if ".codecs." in parameter and not _reached(recipe, phase, parameter.split(".")[2]):
        return True  # a stream of a trained tower that another phase's losses reach
    if parameter.endswith(".model.convolutions.2.bias"):  # the same for both frames, of which the difference is taken
        return True
    if parameter.endswith(".enter.weight"):  # the queries of a regression are zeros: only their bias learns
        return isinstance(recipe.stage.stream(parameter.split(".")[2]).objective, Regress)
    if ".layers.0." in parameter and parameter.endswith(".qkv.weight"):
        # what enters as zeros is one value for all to read: queries and keys of the first layer move nothing
        return any(isinstance(s.codec, BlankActions) for s in recipe.stage.streams if s.tower == tower)
    if parameter.endswith(".mask_token"):  # stands for what perhaps no sample of this batch hides
        return True
    if tower in answered or ".codecs." in parameter:
        return False
    depth = next(part.spec.geometry.depth for part in recipe.stage.towers if part.name == tower)
    last = f".layers.{depth - 1}.blocks."
    feeds_keys = any(f"{last}{tower}.{part}." in parameter for part in ("k", "v", "norm_attention"))
    return ".frames." in parameter or (last in parameter and not feeds_keys)


@every_phase
def test_gradients_reach_exactly_what_the_phase_trains(name: str, phase: str) -> None:
    policy = policy_of(name)
    recipe = policy.recipe
    trains = recipe.phase(phase)
    policy.enter(trains)
    found = gradients(policy, prepared_batch(policy))
    reached = {parameter for parameter, grad in found.items() if grad is not None and bool((grad != 0).any())}
    expected = {parameter for parameter in found if owner(recipe, parameter) in trains.trains}
    assert reached <= expected, f"gradient outside of the phase: {sorted(reached - expected)[:5]}"
    missed = {parameter for parameter in expected - reached if not may_be_idle(recipe, trains, parameter)}
    assert not missed, f"trained, but no gradient: {sorted(missed)[:5]}"


# What it costs is known


@every_net
def test_parameters_from_the_recipe_alone_are_the_counted_ones(name: str) -> None:
    policy = policy_of(name)
    told = parameters(policy.recipe)
    assert told.total == sum(parameter.numel() for parameter in policy.parameters())
    for phase in policy.recipe.phases:
        policy.enter(phase)
        trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
        assert told.trained[phase.name] == trained


def text_tokens(policy: StreamPolicy, size: int) -> dict[str, int]:
    """How many tokens the batch's texts have, and its actions where they are written, as the cost is told."""
    batch = nano_batch(policy.recipe, size=size)
    lengths = {}
    for stream in policy.recipe.stage.streams:
        if stream.carries == "text" or isinstance(stream.objective, TokenCE):
            codec = policy.net.own_codec(stream.name)
            latent = codec.observe(batch.obs) if stream.objective is None else codec.target(batch)
            lengths[stream.name] = latent.valid.shape[1]
    return lengths


@contextmanager
def without_waste(policy: StreamPolicy) -> Iterator[None]:
    """Every group attends in a call of its own, so that what is counted is what the layout asks for."""
    policy.net.attend_by(Sdpa(max_waste=0.0))
    try:
        yield
    finally:
        policy.net.attend_by(Sdpa())


@every_recipe
def test_flops_of_acting_are_the_counted_ones(name: str) -> None:
    """Exactly: every matrix product, attention product and convolution, for one sample."""
    policy = policy_of(name)
    obs = nano_batch(policy.recipe, size=1).obs
    told = flops(policy.recipe, tokens=text_tokens(policy, 1)).act
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), without_waste(policy):
        settled = policy.settle(obs, generator=seeded())
    stage = policy.recipe.stage
    legs = [leg for leg in stage.schedule if isinstance(leg, Decode)]
    if any(settled.streams[leg.stream].shape[1] != stage.most_written(leg) for leg in legs):
        pytest.skip("wrote the end mark early")
    assert told.total - told.decode == counter.get_total_flops()


@contextmanager
def products_of_raw_data(policy: StreamPolicy) -> Iterator[list[int]]:
    """FLOPs of each trained linear map and convolution whose input needs no gradient, as they are run."""
    found: list[int] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        weight = module.get_parameter("weight")
        if weight.requires_grad and not given[0].requires_grad:
            found.append(2 * made.numel() * weight[0].numel())

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [module.register_forward_hook(note) for module in policy.modules() if isinstance(module, kinds)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@every_phase
def test_flops_of_training_are_the_counted_ones(name: str, phase: str) -> None:
    """Forward exactly; backward within 1 %, with or without what is spared: a product of raw data needs no gradient of
    its input, and the specs count one all the same, but for a picture network's first map and frozen features."""
    policy = policy_of(name)
    policy.enter(policy.recipe.phase(phase))
    batch = nano_batch(policy.recipe, size=1)
    told = flops(policy.recipe, tokens=text_tokens(policy, 1))
    for cached, expected in ((False, told.train[phase]), (True, told.train_cached[phase])):
        states = policy.features(batch, generator=seeded()) if cached else {}
        with sdpa_kernel(SDPBackend.MATH), without_waste(policy):
            with FlopCounterMode(display=False) as forward, products_of_raw_data(policy) as spared:
                loss = policy.loss(batch, generator=seeded(), cached=states).total.mean()
            with FlopCounterMode(display=False) as backward:
                loss.backward()
        policy.zero_grad(set_to_none=True)
        assert expected.forward == forward.get_total_flops()
        counted = backward.get_total_flops()
        assert any(expected.backward == pytest.approx(known, rel=0.01) for known in (counted, counted + sum(spared)))


# Finite, in units, saved, the same in any order, alone or in company


@every_phase
def test_loss_is_finite_and_per_sample(name: str, phase: str) -> None:
    policy = policy_of(name)
    policy.enter(policy.recipe.phase(phase))
    with torch.no_grad():
        losses = policy.loss(nano_batch(policy.recipe), generator=seeded())
    assert set(losses.terms) == set(policy.phase.losses)
    assert losses.total.shape == (2,)
    assert bool(losses.total.isfinite().all())
    assert bool((losses.total > 0).all())


@pytest.mark.parametrize("name", ACTING)
def test_actions_are_in_physical_units_inside_the_limits(name: str) -> None:
    policy = copy.deepcopy(hasty(name))
    mean, obs = (0.01, -0.02, 0.0, 0.5), nano_batch(policy.recipe).obs
    fit_normalisers(policy, state=None, actions=statistics(mean, (1e-5,) * 4))
    chunk, memory = policy.act(obs, policy.start(2), generator=seeded())
    assert chunk.values.shape == (2, policy.recipe.chunk.num_actions, ROBOT.action_size)
    assert (chunk.control_hz, memory.num_chunks) == (ROBOT.control_hz, 1)
    if _in_their_own_units(policy.recipe):  # an untrained policy writes no chunk, which means zeros
        mean = (0.0,) * 4
    torch.testing.assert_close(chunk.values, torch.tensor(mean).expand_as(chunk.values), rtol=0, atol=1e-3)
    if _in_their_own_units(policy.recipe):
        return
    for far, limit in ((-1e3, ROBOT.low), (1e3, ROBOT.high)):
        fit_normalisers(policy, state=None, actions=statistics((far,) * 4, (10.0,) * 4))
        wild = policy.act(obs, memory, generator=seeded())[0].values
        assert torch.equal(wild, torch.tensor(limit).expand_as(wild))


def _in_their_own_units(recipe: Recipe) -> bool:
    """Whether actions are learned unscaled."""
    codecs = [stream.codec for stream in recipe.stage.streams if stream.carries == "action"]
    return any(isinstance(codec, DiscreteActions) and codec.normaliser == "none" for codec in codecs)


@every_net
def test_save_and_load_are_exact(name: str, tmp_path: Path) -> None:
    policy, other = policy_of(name), build(brief(name), ROBOT, seed=2)
    save_file(policy.state_dict(), tmp_path / "weights.safetensors")
    obs = nano_batch(policy.recipe).obs
    before = other.settle(obs, generator=seeded()).streams
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    loaded, kept = other.settle(obs, generator=seeded()).streams, policy.settle(obs, generator=seeded()).streams
    fixed = {leg.stream for leg in policy.recipe.stage.schedule if isinstance(leg, Draw) and not leg.sampled}
    for stream, value in kept.items():
        assert torch.equal(loaded[stream], value)
        if stream in fixed:  # without a prior the likeliest plan is zero
            continue
        assert value.shape != before[stream].shape or not torch.equal(before[stream], value)


def test_two_processes_are_one_process(tmp_path: Path) -> None:
    """Gradients of every network, averaged over two processes with half of the batch each; one test, so that the two
    processes are started once."""
    program = Path(__file__).with_name("two_processes.py")
    names = sorted(TRAINED.values())
    ranks = [subprocess.Popen([sys.executable, str(program), str(rank), str(tmp_path), *names]) for rank in range(2)]
    assert [rank.wait(timeout=600) for rank in ranks] == [0, 0]
    averaged = load_file(tmp_path / "gradients.safetensors")
    for name in names:
        policy = policy_of(name)
        policy.enter(policy.recipe.phases[0])
        whole = {key: grad for key, grad in gradients(policy, prepared_batch(policy)).items() if grad is not None}
        assert {f"{name}:{key}" for key in whole} == {key for key in averaged if key.startswith(f"{name}:")}
        for key, grad in whole.items():
            close(averaged[f"{name}:{key}"], grad, 1e-4)


@every_net
def test_the_order_of_streams_edges_and_towers_does_not_matter(name: str) -> None:
    recipe, policy = brief(name), policy_of(name)
    stage = recipe.stage
    turned = replace(
        recipe,
        stage=replace(
            stage, streams=stage.streams[::-1], edges=stage.edges[2:] + stage.edges[:2][::-1], towers=stage.towers[::-1]
        ),
    )
    other = fresh(turned)
    policy.enter(recipe.phases[0])
    other.enter(recipe.phases[0])
    batch = nano_batch(recipe)
    with torch.no_grad():
        ours, theirs = (p.loss(batch, generator=seeded()).total for p in (policy, other))
    assert torch.equal(ours, theirs)
    ours, theirs = (p.settle(batch.obs, generator=seeded()).streams for p in (policy, other))
    assert all(torch.equal(ours[stream], theirs[stream]) for stream in ours)


@every_net
def test_one_tiny_batch_can_be_overfitted(name: str) -> None:
    """Same draws each step, so that the loss is one function: 80 steps of Adam take at least a seventh of it away."""
    policy = build(RECIPES[name](), ROBOT, seed=1)
    policy.enter(policy.recipe.phases[0])
    fit_normalisers(policy, state=None, actions=statistics((0.0, 0.0, 0.0, 0.5), (0.02, 0.02, 0.02, 0.3)))
    prepared = prepared_batch(policy, size=1)
    weights = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=1e-3)
    losses = []
    for _ in range(80):
        loss = policy.losses(prepared, {}).total.mean()
        losses.append(loss.item())
        if losses[-1] < losses[0] * 6 / 7:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0] * 6 / 7, f"from {losses[0]:.3f} to {losses[-1]:.3f}"


@every_net
def test_sdpa_equals_dense_in_values_and_gradients(name: str) -> None:
    policy = fresh(RECIPES[name]())
    policy.enter(policy.recipe.phases[0])
    prepared = prepared_batch(policy)
    found = {}
    for attend in (Sdpa(), Dense()):
        policy.net.attend_by(attend)
        with torch.no_grad():
            value = policy.losses(prepared, {}).total
        found[type(attend)] = (value, gradients(policy, prepared))
    close(found[Sdpa][0], found[Dense][0])
    for parameter, reference in found[Dense][1].items():
        ours = found[Sdpa][1][parameter]
        if reference is not None and ours is not None:
            close(ours, reference, 1e-4)
        else:  # what nobody reads has no gradient, or in a shared call one of exact zeros
            assert all(found is None or not found.any() for found in (ours, reference))


@pytest.mark.parametrize("name", sorted(MASKED.values()))
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_flex_forward_equals_dense_forward(name: str) -> None:
    policy = fresh(RECIPES[name]())
    policy.enter(policy.recipe.phases[0])
    prepared = prepared_batch(policy)
    found = []
    for attend in (Flex(), Dense()):
        policy.net.attend_by(attend)
        found.append(policy.losses(prepared, {}).total)
    close(found[0], found[1])


@every_recipe
def test_what_is_shown_names_every_group_phase_and_departure(name: str) -> None:
    recipe = RECIPES[name]()
    text = show(recipe)
    for words in (*recipe.stage.layout.groups, *(phase.name for phase in recipe.phases), *recipe.departs, recipe.paper):
        assert words in text
