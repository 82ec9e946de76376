"""DiT4DiT: what the head reads and what its loss does not reach; its published layout of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import policy_of, prepared_batch, seeded
from nano_batch import ROBOT, nano_batch
from released import goes_in_and_comes_out, weighs_and_works_as_said
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.backbones.load import load_backbones
from crossroads.build import build
from crossroads.codecs.action_tokens import ActionCodec, ActionTokens, HeadEnds
from crossroads.codecs.reason import ReasonFeatures
from crossroads.cost.flops import flops, parameters
from crossroads.errors import InputError
from crossroads.parity.recorded import all_valid
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.dit4dit import dit4dit
from crossroads.recipes.dit4dit_names import UNUSED, dit4dit_names
from crossroads.recipes.dit4dit_sizes import NANO, PUBLISHED
from crossroads.recipes.transfer import Official
from crossroads.schedule import Denoise
from crossroads.towers.attend import Sdpa
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.groot import GrootHead, bucket_of
from crossroads.towers.group import GroupInput


def test_the_head_reads_pure_noise_beside_the_frame_of_now_whatever_level_the_video_has() -> None:
    policy = policy_of("dit4dit")
    policy.enter(policy.recipe.phase("full"))
    prepared = prepared_batch(policy)
    assert prepared.levels["glimpse"].unique().tolist() == [1.0]
    assert prepared.levels["video"].max() < 1.0
    latents = prepared.latents["glimpse"].values
    assert abs(latents.mean().item()) < 0.05
    assert latents.std().item() == pytest.approx(1.0, abs=0.05)
    other = replace(prepared, latents={**prepared.latents, "video": all_valid(torch.zeros_like(latents))})
    with torch.no_grad():
        ours, theirs = policy.losses(prepared, {}).terms, policy.losses(other, {}).terms
    assert torch.equal(ours["action"], theirs["action"])
    assert not torch.equal(ours["video"], theirs["video"])


def owner(parameter: str) -> str:
    """Whether a weight is the head's or the video model's."""
    parts = (".expert.", ".codecs.action.", ".codecs.state.")
    return "head" if any(part in f".{parameter}" for part in parts) else "video"


def test_the_action_loss_reaches_the_head_alone_though_both_learn_at_once() -> None:
    policy = policy_of("dit4dit")
    policy.enter(policy.recipe.phase("full"))
    prepared = prepared_batch(policy)

    def touched(loss: str) -> set[str]:
        policy.zero_grad(set_to_none=True)
        policy.losses(prepared, {}).terms[loss].mean().backward()
        found = {name for name, weight in policy.named_parameters() if weight.grad is not None and weight.grad.any()}
        policy.zero_grad(set_to_none=True)
        return found

    head = {name for name, weight in policy.named_parameters() if owner(name) == "head"}
    assert touched("action") == head
    lesson = touched("video")
    assert lesson
    assert not lesson & head


def test_acting_passes_the_video_model_once_and_never_runs_its_lesson() -> None:
    policy = policy_of("dit4dit")
    ran: list[set[str]] = []

    def note(_: nn.Module, given: tuple[Mapping[str, GroupInput], ...]) -> None:
        ran.append(set(given[0]))

    handle = policy.net.register_forward_pre_hook(note)
    try:
        policy.settle(nano_batch(policy.recipe).obs, generator=seeded())
    finally:
        handle.remove()
    assert sum("glimpse" in names for names in ran) == 1
    (steps,) = [leg.solver.steps for leg in policy.recipe.stage.schedule if isinstance(leg, Denoise)]
    assert sum("action" in names for names in ran) == steps
    assert all("state" in names for names in ran if "action" in names)  # it is told their level
    assert not any("video" in names or "video.now" in names for names in ran)


def test_shipped_weights_fill_the_video_model_and_its_words() -> None:
    policy = build(dit4dit(), ROBOT, seed=2)
    before = {name: weight.clone() for name, weight in policy.net.state_dict().items()}
    assert sorted(load_backbones(policy)) == ["nano_video"]
    after = policy.net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= set(policy.net.weight_names(["text", "video"]).values())


def test_published_sizes_weigh_what_the_paper_says() -> None:
    """2.2 B in all (arXiv 2603.10448), without the frozen encoders of words and pixels."""
    parts = {
        part: num for part, num in parameters(recipe("dit4dit", "published")).parts.items() if "autoenc" not in part
    }
    assert sum(parts.values()) == pytest.approx(2.2e9, rel=0.05)
    groups = recipe("dit4dit", "published").stage.layout.groups
    tokens = {name: group.stream.codec.num_tokens(group.view.kind) for name, group in groups.items()}
    assert tokens["glimpse"] + tokens["glimpse.now"] == 2 * 196
    assert 2 * recipe("dit4dit", "published").stage.towers[2].spec.geometry.depth == 16


def test_levels_are_told_in_whole_buckets() -> None:
    assert bucket_of(torch.tensor([[0.0, 0.25, 0.8709, 1.0005]]), 1000).tolist() == [[0.0, 250.0, 870.0, 1000.0]]
    spec = ActionTokens(num_actions=3, action_size=2, control_hz=1.0, head=HeadEnds(num_places=4, widened=6))
    codec = ActionCodec(spec, 8)
    latent = torch.randn(1, 3, 2)
    tokens = [codec.embed(latent, torch.tensor([[level]])) for level in (0.5001, 0.5009, 0.5011)]
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])
    assert sum(weight.numel() for weight in codec.parameters()) == spec.num_parameters(8)
    assert codec.read(torch.randn(1, 3, 8)).shape == (1, 3, 2)


def test_more_actions_than_places_are_refused() -> None:
    with pytest.raises(InputError, match=r"a place for each of 5 actions, got 4"):
        ActionTokens(num_actions=5, action_size=2, control_hz=1.0, head=HeadEnds(num_places=4, widened=6))


WORDS = 12
TINY = replace(
    PUBLISHED,
    text=ReasonFeatures(source="none", num_layers=2, layer_width=5, max_tokens=3),
    text_tower=Given(width=WORDS),
    video=replace(PUBLISHED.video, image_hw=(32, 48)),
    video_tower=Cosmos(
        width=16, mlp=24, depth=2, heads=2, head_dim=12, rotary=(4, 4, 4), modulation_width=4, context_width=WORDS
    ),
    tap=0,
    state=replace(PUBLISHED.state, hidden=(7,)),
    action=replace(PUBLISHED.action, hidden_out=(7,), head=HeadEnds(num_places=9, widened=10)),
    head=GrootHead(heads=2, head_dim=6, mlp=20, depth=2, context_width=16, frequency_width=8),
)
RELEASED = Official(recipe=dit4dit(TINY), names=dit4dit_names(TINY), unused=UNUSED)


def test_the_official_layout_goes_in_and_comes_out_again(tmp_path: Path) -> None:
    given = goes_in_and_comes_out(RELEASED, tmp_path, ("backbone_interface.extractor.vae.quant.weight",))
    assert given["backbone_interface.extractor.transformer.crossattn_proj.0.weight"].shape == (WORDS, 10)
    assert given["action_model.model.transformer_blocks.2.attn1.to_k.weight"].shape == (12, 16)
    assert given["action_model.model.transformer_blocks.3.attn1.to_k.weight"].shape == (12, 12)


def test_weights_and_work_of_the_published_kind_are_the_counted_ones() -> None:
    """The published video model and words, which nano has not."""
    weighs_and_works_as_said(RELEASED)


def test_training_on_the_published_kind_costs_what_is_said() -> None:
    """At nano size, with a Cosmos tower in place of Wan; backward within 2.5 %."""
    size = replace(
        NANO,
        video=replace(NANO.video, marked=True),
        video_tower=Cosmos(
            width=192,
            mlp=768,
            depth=6,
            heads=4,
            head_dim=48,
            rotary=(16, 16, 16),
            modulation_width=32,
            context_width=128,
        ),
        sees_ahead=True,
    )
    policy: StreamPolicy = build(dit4dit(size), ROBOT, seed=1)
    policy.net.attend_by(Sdpa(max_waste=0.0))
    batch = nano_batch(policy.recipe, size=1)
    num = policy.net.own_codec("text").observe(batch.obs).valid.shape[1]
    for phase in policy.recipe.phases:
        policy.enter(phase)
        told = flops(policy.recipe, tokens={"text": num}).train[phase.name]
        with sdpa_kernel(SDPBackend.MATH):
            with FlopCounterMode(display=False) as forward:
                loss = policy.loss(batch, generator=seeded()).total.mean()
            with FlopCounterMode(display=False) as backward:
                loss.backward()
        assert told.forward == forward.get_total_flops()
        assert told.backward == pytest.approx(backward.get_total_flops(), rel=0.025)
