"""What a policy that goes on block by block remembers: nothing but what training showed it, and no longer than that."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import close, hasty, moments, policy_of, seeded
from nano_batch import ROBOT, nano_batch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.build import build
from crossroads.codecs.latents import LatentCodec
from crossroads.codecs.streaming import EncoderState, Past
from crossroads.codecs.video_autoencoder import NanoAutoencoderNet
from crossroads.cost.flops import flops
from crossroads.errors import InputError
from crossroads.history import History, continued
from crossroads.interpreter import Interpreter
from crossroads.learner import Prepared
from crossroads.policy import Memory, StreamPolicy
from crossroads.recipes.catalogue import RECIPES
from crossroads.recipes.lingbot_va import TURNS, lingbot_va
from crossroads.recipes.lingbot_va_sizes import NANO
from crossroads.schedule import Denoise, Guidance
from crossroads.solvers import Euler
from crossroads.towers.attend import Sdpa
from crossroads.types import Observation

every_remembering = pytest.mark.parametrize("name", ["dreamzero", "lingbot_va"])  # their variants remember as they do


class Taught(Interpreter):
    """An interpreter whose legs answer once, at the noise that training showed, and settle on what was recorded."""

    prepared: Prepared
    clean: dict[str, Tensor]
    answers: dict[str, Tensor]

    @torch.no_grad()
    def _denoise(self, leg: Denoise) -> None:
        names = sorted(leg.streams)
        running, parts = self._sources(names), dict[str, slice]()
        for name in names:
            start, num = self._block(name) or (0, 0)
            parts[name] = slice(start, start + num)
            shown = self.prepared.latents[name].values[:, parts[name]]
            self.latents[name] = replace(self.latents[name], values=shown)
            (self.levels[name],) = set(self.prepared.levels[name][:, start // num].tolist())
        states = self.net({group: self._input(group) for group in running}, self.states)
        for name in names:
            self.answers[name] = self.net.codec(name).read(states[name].hidden)
            self.latents[name] = replace(self.latents[name], values=self.clean[name][:, parts[name]])


@every_remembering
@pytest.mark.parametrize("caching", [True, False], ids=["cached", "full"])
@torch.no_grad()
def test_block_after_block_with_what_was_observed_is_the_teacher_forced_pass(name: str, caching: bool) -> None:
    policy = policy_of(name)
    policy.enter(policy.recipe.phases[0])
    batch = nano_batch(policy.recipe)
    batch = replace(batch, actions_valid=torch.ones_like(batch.actions_valid))
    prepared = policy.prepare(batch, policy.groups(), seeded())
    clean = {name: policy.net.target(name, batch).values for name in prepared.owed}
    levels = {name: level[:1].expand_as(level) for name, level in prepared.levels.items()}  # one level for all samples
    latents = dict(prepared.latents)
    for group in policy.recipe.stage.remembered:  # which training may have noised
        levels[group] = torch.zeros_like(levels[group])
        latents[group] = replace(latents[group], values=clean[policy.net.group(group).stream.name])
    prepared = replace(prepared, levels=levels, latents=latents)
    together = policy.net(policy.inputs(prepared, frozenset(prepared.latents), {}), {})
    stage, history = policy.recipe.stage, None
    stream = policy.net.group(stage.remembered[0]).stream
    observations = moments(policy, batch)
    assert len(observations) == 3
    for number, obs in enumerate(observations):
        history = continued(history, obs, stream, policy.net)
        assert (history.num_blocks if history else 0) == number
        run = Taught(policy.net, obs, seeded(), caching=caching, history=history)
        run.prepared, run.clean, run.answers = prepared, clean, {}
        run.run(stage.schedule)
        assert run.answers.keys() == clean.keys()
        for group, answer in run.answers.items():
            num = answer.shape[1]
            taught = policy.net.codec(group).read(together[group].hidden)
            close(answer, taught[:, number * num : (number + 1) * num])
        history = run.behind(obs)


def lived(policy: StreamPolicy, observations: list[Observation]) -> Memory:
    memory = policy.start(observations[0].batch_size)
    for obs in observations:
        memory = policy.act(obs, memory, generator=seeded())[1]
    return memory


def blocks(memory: Memory) -> int:
    assert isinstance(memory.history, History)
    return memory.history.num_blocks


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
@torch.no_grad()
def test_what_was_seen_is_encoded_once_as_the_clip_that_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(name)
    batch = nano_batch(policy.recipe)
    first, *others = moments(policy, batch)
    stream = policy.net.group(policy.recipe.stage.remembered[0]).stream
    codec = policy.net.own_codec(stream.name)
    assert isinstance(codec, LatentCodec)
    whole, sizes = codec.target(batch), []
    real = NanoAutoencoderNet.encode_group

    def counted(self: NanoAutoencoderNet, pixels: Tensor, past: Past) -> tuple[Tensor, Past]:
        sizes.append(pixels.shape[1])
        return real(self, pixels, past)

    monkeypatch.setattr(NanoAutoencoderNet, "encode_group", counted)
    history = History(starts=(first,), num_blocks=0, frames={}, latents={}, states={}, blank={})
    for obs in others:
        history = continued(history, obs, stream, policy.net)
        assert history is not None
    found = history.latents[stream.group("clean")]
    num = found.valid.shape[1]
    assert 0 < num < whole.valid.shape[1]
    close(found.shown, whole.shown[:, :num])
    assert sizes == [1] + [4] * sum(next(iter(obs.passed.values())).shape[1] // 4 for obs in others)
    again, _ = codec.clip(first.images, history.frames, found, EncoderState())  # all of it anew
    close(again.shown, found.shown)


@every_remembering
def test_a_history_ends_under_other_words_and_without_frames(name: str) -> None:
    policy = hasty(name)
    first, second, *_ = moments(policy, nano_batch(policy.recipe))
    memory = lived(policy, [first])
    assert blocks(policy.act(second, memory, generator=seeded())[1]) == 1
    other = replace(second, text=("close the drawer",) * second.batch_size)
    assert blocks(policy.act(other, memory, generator=seeded())[1]) == 0
    assert blocks(policy.act(replace(second, passed={}), memory, generator=seeded())[1]) == 0


def test_dreamzero_starts_anew_when_the_clip_of_training_is_over() -> None:
    policy = hasty("dreamzero")
    observations = moments(policy, nano_batch(policy.recipe))
    full = lived(policy, observations)
    assert blocks(full) == len(observations) - 1
    after, again = policy.act(observations[1], full, generator=seeded())
    assert blocks(again) == 0
    assert torch.equal(after.values, policy.act(observations[1], policy.start(2), generator=seeded())[0].values)


def doing(memory: Memory, actions: Tensor) -> Memory:
    """As if these actions had been answered and executed."""
    assert memory.history is not None
    done = memory.history.latents["action.clean"]
    latents = {**memory.history.latents, "action.clean": replace(done, values=actions)}
    return replace(memory, history=replace(memory.history, latents=latents))


@torch.no_grad()
def test_lingbot_va_goes_on_as_if_it_had_begun_a_block_later_when_the_clip_of_training_is_over() -> None:
    policy = hasty("lingbot_va")
    first, second, third = moments(policy, nano_batch(policy.recipe))
    fourth = replace(moments(policy, nano_batch(policy.recipe, seed=1))[2], text=first.text)
    before = lived(policy, [first, second, third])
    assert before.history is not None
    done = before.history.latents["action.clean"].values
    num = done.shape[1] // 3
    later = doing(lived(policy, [replace(second, passed={})]), done[:, num : 2 * num])
    later = doing(policy.settle_on(third, later, generator=seeded())[1], done[:, num:])
    expected, there = policy.settle_on(fourth, later, generator=seeded())
    for caching in (True, False):
        settled, memory = policy.settle_on(fourth, before, generator=seeded(), caching=caching)
        assert blocks(memory) == blocks(there) == 2
        for stream, values in expected.streams.items():
            close(settled.streams[stream], values)
        assert memory.history is not None
        assert there.history is not None
        for group, latent in there.history.latents.items():
            close(memory.history.latents[group].values, latent.values)


def test_the_oldest_is_dropped_only_where_nothing_reads_further_back_than_a_window() -> None:
    recipes = RECIPES["lingbot_va"](), lingbot_va(replace(NANO, window=None)), RECIPES["dreamzero"]()
    assert [recipe.stage.layout.windowed for recipe in recipes] == [True, False, False]


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


def guided(
    scale: float, *, steps: int = 2, name: str = "dreamzero", only: tuple[str, ...] = ("video",)
) -> StreamPolicy:
    """A recipe with some of its streams guided."""
    recipe, legs = RECIPES[name](), []
    for leg in recipe.stage.schedule:
        if isinstance(leg, Denoise):
            streams = tuple(stream for stream in leg.streams if stream in only)
            guidance = Guidance(streams=streams, scale=scale) if streams else None
            legs.append(replace(leg, solver=Euler(steps=steps), guidance=guidance))
        else:
            legs.append(leg)
    policy = build(recipe.vary({"stage.schedule": tuple(legs)}), ROBOT, seed=1)
    for weight_name, weight in policy.named_parameters():  # the words must matter
        if ".cross_" in weight_name:
            weight.requires_grad_(False).mul_(4.0)
    return policy


every_guided = pytest.mark.parametrize(
    ("name", "only"),
    [("dreamzero", ("video",)), ("lingbot_va", ("video",)), ("lingbot_va", ("action",)), ("lingbot_va", TURNS)],
)


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


@every_guided
def test_cached_equals_full_with_guidance_and_a_history(name: str, only: tuple[str, ...]) -> None:
    policy = guided(5.0, name=name, only=only)
    first, second, third = moments(policy, nano_batch(policy.recipe))
    memory = lived(policy, [first, second])
    found = [policy.settle_on(third, memory, generator=seeded(), caching=c)[0].streams for c in (True, False)]
    for stream in found[0]:
        close(found[0][stream], found[1][stream])


@every_guided
def test_what_guidance_costs_is_counted(name: str, only: tuple[str, ...]) -> None:
    policy = guided(5.0, name=name, only=only)
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
