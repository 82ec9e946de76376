"""What a policy that goes on block by block remembers: nothing but what training showed it, and no longer than that."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import close, policy_of, seeded
from nano_batch import ROBOT, nano_batch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.build import build
from crossroads.cost.flops import flops
from crossroads.errors import InputError
from crossroads.history import History, continued
from crossroads.policy import Memory, StreamPolicy
from crossroads.recipes.catalogue import RECIPES
from crossroads.schedule import Denoise, Guidance, Interpreter
from crossroads.solvers import Euler
from crossroads.towers.attend import Sdpa
from crossroads.types import Batch, Observation

REMEMBERING = [name for name, make in RECIPES.items() if make().stage.by_block]
every_remembering = pytest.mark.parametrize("name", REMEMBERING)


def moments(policy: StreamPolicy, batch: Batch) -> list[Observation]:
    """A recorded window as its robot would have lived it: an observation at the start of each block."""
    num = 1 + len(policy.recipe.window.later_state_s)
    per_block = len(policy.recipe.chunk.future_s)
    found = [batch.obs]
    assert batch.later_state is not None
    for block in range(1, num):
        passed = {name: frames[:, (block - 1) * per_block : block * per_block] for name, frames in batch.future.items()}
        images = {name: frames[:, -1] for name, frames in passed.items()}
        state = batch.later_state[:, block - 1]
        found.append(replace(batch.obs, images=images, state=state, passed=passed))
    return found


class Probe(Interpreter):
    """An interpreter that is shown the noised latents of a training batch instead of noise of its own."""

    @torch.no_grad()
    def answers(self, stage, latents: dict[str, Tensor], levels: dict[str, Tensor]) -> dict[str, Tensor]:
        self.run(stage.schedule[:1])
        moving = sorted(self._principal(name) for leg in stage.schedule for name in getattr(leg, "streams", ()))
        running = self._sources(moving)
        for name in moving:
            start, num = self._block(name) or (0, 0)
            self.latents[name] = replace(self.latents[name], values=latents[name][:, start : start + num])
            (self.levels[name],) = set(levels[name][:, self.history.num_blocks if self.history else 0].tolist())
        states = self.net({name: self._input(name) for name in running}, self.states)
        return {name: self.net.codec(name).read(states[name].hidden) for name in moving}


@every_remembering
@torch.no_grad()
def test_block_after_block_with_what_was_observed_is_the_teacher_forced_pass(name: str) -> None:
    policy = policy_of(name)
    policy.enter(policy.recipe.phases[0])
    batch = nano_batch(policy.recipe)
    batch = replace(batch, actions_valid=torch.ones_like(batch.actions_valid))
    prepared = policy.prepare(batch, policy.groups(), seeded())
    levels = {name: level[:1].expand_as(level) for name, level in prepared.levels.items()}  # one level for all samples
    prepared = replace(prepared, levels=levels)
    latents = {name: latent.values for name, latent in prepared.latents.items()}
    together = policy.net(policy.inputs(prepared, frozenset(prepared.latents), {}), {})
    stage, history = policy.recipe.stage, None
    stream = policy.net.group(stage.remembered[0]).stream
    for number, obs in enumerate(moments(policy, batch)):
        history = continued(history, obs, stream, policy.net)
        assert (history.num_blocks if history else 0) == number
        probe = Probe(policy.net, obs, seeded(), history=history)
        for group, answer in probe.answers(stage, latents, levels).items():
            num = answer.shape[1]
            taught = policy.net.codec(group).read(together[group].hidden)
            close(answer, taught[:, number * num : (number + 1) * num])
        history = probe.behind(obs)
    assert history is not None
    assert history.num_blocks == len(policy.recipe.window.later_state_s)


def lived(policy: StreamPolicy, observations: list[Observation]) -> Memory:
    memory = policy.start(observations[0].batch_size)
    for obs in observations:
        memory = policy.act(obs, memory, generator=seeded())[1]
    return memory


@every_remembering
def test_cached_equals_full_with_a_history(name: str) -> None:
    policy = policy_of(name)
    *before, now = moments(policy, nano_batch(policy.recipe))
    memory = lived(policy, before)
    kept = memory.history
    found = [policy.settle_on(now, memory, generator=seeded(), caching=caching)[0].streams for caching in (True, False)]
    for stream in found[0]:
        close(found[0][stream], found[1][stream])
    assert memory.history is kept
    fresh = policy.settle(now, generator=seeded()).streams
    assert not torch.allclose(fresh["action"], found[0]["action"], atol=1e-3)


@every_remembering
def test_a_history_ends_under_other_words_without_frames_and_with_the_window(name: str) -> None:
    policy = policy_of(name)
    observations = moments(policy, nano_batch(policy.recipe))
    first, second, *_ = observations
    memory = lived(policy, [first])

    def blocks(memory: Memory) -> int:
        assert isinstance(memory.history, History)
        return memory.history.num_blocks

    assert blocks(policy.act(second, memory, generator=seeded())[1]) == 1
    other = replace(second, text=("close the drawer",) * second.batch_size)
    assert blocks(policy.act(other, memory, generator=seeded())[1]) == 0
    assert blocks(policy.act(replace(second, passed={}), memory, generator=seeded())[1]) == 0
    full = lived(policy, observations)
    assert blocks(full) == len(observations) - 1
    after, again = policy.act(second, full, generator=seeded())
    assert blocks(again) == 0
    assert torch.equal(after.values, policy.act(second, policy.start(2), generator=seeded())[0].values)


@every_remembering
def test_a_block_with_a_frame_too_few_is_refused(name: str) -> None:
    policy = policy_of(name)
    first, second, *_ = moments(policy, nano_batch(policy.recipe))
    short = replace(second, passed={camera: frames[:, 1:] for camera, frames in second.passed.items()})
    with pytest.raises(InputError, match=r"passed: expected the 4 frames"):
        policy.act(short, lived(policy, [first]), generator=seeded())


@every_remembering
def test_what_is_imagined_is_the_block_that_comes_next(name: str) -> None:
    policy = policy_of(name)
    first, second, *_ = moments(policy, nano_batch(policy.recipe))
    for obs, memory in ((first, policy.start(2)), (second, lived(policy, [first]))):
        imagined = policy.act(obs, memory, generator=seeded(), show=True)[0].imagined
        assert {frames.shape[1] for frames in imagined.values()} == {len(policy.recipe.chunk.future_s)}


# Guidance


def guided(scale: float, *, steps: int = 2) -> StreamPolicy:
    """DreamZero with its video guided."""
    recipe = RECIPES["dreamzero"]()
    denoise = recipe.stage.schedule[-1]
    assert isinstance(denoise, Denoise)
    leg = replace(denoise, solver=Euler(steps=steps), guidance=Guidance(streams=("video",), scale=scale))
    policy = build(recipe.vary({"stage.schedule": (*recipe.stage.schedule[:-1], leg)}), ROBOT, seed=1)
    for name, weight in policy.named_parameters():  # the words must matter
        if ".cross_" in name:
            weight.requires_grad_(False).mul_(4.0)
    return policy


def test_guidance_carries_the_video_away_from_what_no_words_say_and_leaves_the_actions() -> None:
    """One Euler step from noise to clean: what is taken off the noise is the velocity itself."""
    policy, plain = guided(3.0, steps=1), guided(1.0, steps=1)
    obs = nano_batch(policy.recipe).obs
    found = policy.settle(obs, generator=seeded()).streams
    told = plain.settle(obs, generator=seeded()).streams
    blank = plain.settle(obs.told(("",) * obs.batch_size), generator=seeded()).streams
    close(found["video"], blank["video"] + 3.0 * (told["video"] - blank["video"]))
    close(found["action"], told["action"])
    assert not torch.allclose(found["video"], told["video"], atol=1e-3)


def test_cached_equals_full_with_guidance_and_a_history() -> None:
    policy = guided(5.0)
    first, second, third = moments(policy, nano_batch(policy.recipe))
    memory = lived(policy, [first, second])
    found = [policy.settle_on(third, memory, generator=seeded(), caching=c)[0].streams for c in (True, False)]
    for stream in found[0]:
        close(found[0][stream], found[1][stream])


def test_what_guidance_costs_is_counted() -> None:
    policy = guided(5.0)
    obs = nano_batch(policy.recipe, size=1).obs
    obs = obs.told(("red",))  # as long as no words at all: one token
    num = policy.net.own_codec("text").observe(obs).valid.shape[1]
    told = flops(policy.recipe, tokens={"text": num}).act
    policy.net.attend_by(Sdpa(max_waste=0.0))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        policy.settle(obs, generator=seeded())
    assert told.total - told.decode == counter.get_total_flops()


def test_guidance_of_what_does_not_move_is_refused() -> None:
    recipe = RECIPES["dreamzero"]()
    guidance = Guidance(streams=("state",), scale=2.0)
    with pytest.raises(InputError, match=r"guidance, streams: expected some of \['action', 'video'\]"):
        recipe.vary({"stage.schedule.1.guidance": guidance})
    with pytest.raises(InputError, match="guidance, without"):
        recipe.vary({"stage.schedule.1.guidance": replace(guidance, streams=("video",), without=("txt",))})
