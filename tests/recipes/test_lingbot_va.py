"""LingBot-VA chunk by chunk: the mask at any chunk and window, what is told to whom, and what is remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import moments, policy_of, seeded
from nano_batch import ROBOT, nano_batch

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionCodec
from crossroads.errors import InputError
from crossroads.noise import UniformLevels, shift
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes.lingbot_va import lingbot_va, lingbot_va_towers
from crossroads.recipes.lingbot_va_sizes import NANO
from crossroads.recipes.transfer import official
from crossroads.schedule import Commit
from crossroads.streams import NOISED, NOW, Clock, View
from crossroads.towers.spec import Places
from crossroads.towers.wan import WanFrame

FORMS = ("lingbot_va", "lingbot_va_towers")
both_forms = pytest.mark.parametrize("name", FORMS)


def staged(recipe: Recipe, **changes: object) -> Recipe:
    return replace(recipe, stage=replace(recipe.stage, **changes))  # pyright: ignore[reportArgumentType]


# Who reads whom


@pytest.mark.parametrize("window", [0, 1, 2, 3, 4, 5, None])
def test_a_window_counts_chunks_of_both_kinds_wherever_a_chunk_of_several_frames_begins(window: int | None) -> None:
    """Id 2c for the video of chunk c and 2c + 1 for its actions; noised reads itself and what is before, clean itself
    and what is before, neither anything more than ``window`` ids back (the rule of LeRobot's port)."""
    frames, per_frame, per_chunk = 6, NANO.video.num_tokens("now"), 2
    size = replace(NANO, frames_per_chunk=per_chunk, window=window)
    layout = lingbot_va(size).stage.layout
    tokens = {"video": per_frame, "video.clean": per_frame, "action": 12, "action.clean": 12}
    num = {name: frames * each for name, each in tokens.items()}
    mask, names = layout.dense(num), sorted(num)
    number = torch.cat([2 * (torch.arange(num[n]) // tokens[n] // per_chunk) + n.startswith("action") for n in names])
    clean = torch.cat([torch.full((num[n],), n.endswith("clean")) for n in names])
    q, k = number[:, None], number[None, :]
    seen = torch.where(clean[:, None], k <= q, k < q) & clean[None, :]
    seen |= ~clean[:, None] & ~clean[None, :] & (q == k)
    assert torch.equal(mask, seen if window is None else seen & (q - k <= window))


def test_only_the_released_form_is_one_trunk() -> None:
    assert {group.tower for group in lingbot_va().stage.layout.groups.values()} == {"text", "video"}
    assert lingbot_va_towers().stage.layout.groups["action.clean"].tower == "expert"
    assert lingbot_va().stage.edges == lingbot_va_towers().stage.edges
    assert official("lingbot_va").unused


# What is told, and where it stands


def test_actions_stand_between_the_frames_of_their_chunk() -> None:
    codec = policy_of("lingbot_va").net.own_codec("action")
    assert isinstance(codec, ActionCodec)
    grid = codec.grid("noised", 2 * 12)
    assert torch.equal(grid[:, 1:], torch.full((24, 2), -1.0))
    wanted = torch.tensor([frame + number / 13 for frame in (1, 2) for number in range(1, 13)])
    torch.testing.assert_close(grid[:, 0], wanted)


@torch.no_grad()
def test_what_stands_beside_the_pictures_is_told_its_level_by_weights_of_its_own() -> None:
    """Runs of either kind, in any order, are told what a frame with the one kind of weights alone would tell them."""
    torch.manual_seed(0)
    spec = replace(NANO.video_tower, beside_levels=True)
    frame, alone = WanFrame(spec), WanFrame(NANO.video_tower)
    level, counts = torch.rand(2, 4, generator=seeded()), (3, 2, 1, 4)
    rows = torch.tensor([-1.0] * 3 + [0.0] * 2 + [5.0] + [-1.0] * 4)
    grid = torch.stack([torch.arange(10.0), rows, rows], dim=1)
    places = Places(index=torch.zeros(2, 10), grid=grid)
    told = frame.condition(level, counts, places, (), None)
    shared = {name: value for name, value in frame.state_dict().items() if not name.startswith("beside_")}
    own = {name.removeprefix("beside_"): value for name, value in frame.state_dict().items() if "beside_" in name}
    for weights, which in ((shared, rows >= 0), ({**shared, **own}, rows < 0)):
        alone.load_state_dict(weights)
        expected = alone.condition(level, counts, places, (), None)
        torch.testing.assert_close(told.block[:, which], expected.block[:, which])
        torch.testing.assert_close(told.head[:, which], expected.head[:, which])
    assert sum(weight.numel() for weight in frame.parameters()) == spec.num_parameters() - spec.depth * layer_of(spec)


def layer_of(spec) -> int:
    """Weights of one layer, by the difference of two depths."""
    return replace(spec, depth=2).num_parameters() - replace(spec, depth=1).num_parameters()


def test_the_history_of_half_of_the_samples_is_noised_frame_by_frame_from_the_lower_half_of_levels() -> None:
    size = replace(NANO, frames_per_chunk=3)
    recipe = lingbot_va(size)
    policy = StreamPolicy(recipe, build_net(recipe.stage), ROBOT)
    batch = nano_batch(recipe, size=24)
    found = policy.prepare(batch, policy.groups(), seeded())
    levels = found.levels["video.clean"]
    assert levels.shape == found.levels["video"].shape == found.levels["action"].shape == (24, 3)
    noised = (levels > 0).any(dim=1)
    assert 5 < noised.sum() < 19
    assert bool((levels[noised] > 0).all())
    assert 0.75 < levels.max() <= shift(torch.tensor(0.5), size.video_shift)
    assert levels[noised][:, 0].ne(levels[noised][:, 1]).all()
    clean = policy.net.target("video", batch).values
    same = (found.latents["video.clean"].values == clean).flatten(1).all(dim=1)
    assert torch.equal(same, ~noised)
    assert not found.levels["action.clean"].any()


# What is remembered


@both_forms
@torch.no_grad()
def test_what_was_answered_is_remembered_and_what_was_imagined_is_not(name: str) -> None:
    policy = policy_of(name)
    first, second, third = moments(policy, nano_batch(policy.recipe))
    settled, memory = policy.settle_on(first, policy.start(2), generator=seeded())
    assert memory.history is not None
    assert torch.equal(memory.history.latents["action.clean"].values, settled.streams["action"])
    assert not {"video.clean", "action.clean"} & (memory.history.latents.keys() - {"action.clean"})
    assert not {"video.clean", "action.clean"} & memory.history.states.keys()
    again, later = policy.settle_on(second, memory, generator=seeded())
    assert later.history is not None
    done = [settled.streams["action"], again.streams["action"]]
    assert torch.equal(later.history.latents["action.clean"].values, torch.cat(done, dim=1))
    per_block = dict(policy.recipe.stage.clock.tokens_per_block)
    for stream in ("video", "action"):
        assert later.history.states[f"{stream}.clean"].valid.shape[1] == per_block[stream]
    imagined = policy.act(third, later, generator=seeded(), show=True)[0].imagined
    assert {frames.shape[1] for frames in imagined.values()} == {4}


# What means nothing is refused


def test_levels_of_a_view_that_is_never_noised_are_refused() -> None:
    recipe = lingbot_va()
    video = replace(recipe.stage.stream("video"), views=(NOW, NOISED, View(kind="clean", levels=UniformLevels())))
    streams = tuple(video if stream.name == "video" else stream for stream in recipe.stage.streams)
    with pytest.raises(InputError, match="levels of the clean view"):
        staged(recipe, streams=streams).validate()


def test_levels_that_do_not_divide_a_block_are_refused() -> None:
    recipe = lingbot_va()
    clock = Clock(tokens_per_block=recipe.stage.clock.tokens_per_block, levels_per_block=5)
    with pytest.raises(InputError, match="blocks that 5 levels divide"):
        staged(recipe, clock=clock).validate()


def test_the_video_is_the_first_that_is_committed_as_observed() -> None:
    recipe = lingbot_va()
    action, video = (Commit(stream=name, observed=True) for name in ("action", "video"))
    with pytest.raises(InputError, match="a stream of video as the first observed Commit"):
        staged(recipe, schedule=(action, video, *recipe.stage.schedule[2:])).validate()
