"""Motus: five questions to one network, each moving exactly what it asks for; and its published layout of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import seeded
from nano_batch import ROBOT, nano_batch
from released import goes_in_and_comes_out, weighs_and_works_as_said
from torch import Tensor, nn

from crossroads.axes import computed
from crossroads.backbones.load import load_backbones
from crossroads.build import build, build_net
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.scene import QwenVision, SceneFeatures
from crossroads.codecs.state import StateToken
from crossroads.cost.flops import parameters
from crossroads.interpreter import Settled
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.motus import QUESTIONS, motus
from crossroads.recipes.motus_names import UNUSED, motus_names
from crossroads.recipes.motus_sizes import PUBLISHED
from crossroads.recipes.nano import DENOISING_STEPS
from crossroads.recipes.transfer import Official
from crossroads.streams import NOW
from crossroads.towers.given import Given
from crossroads.towers.group import GroupInput
from crossroads.towers.motus import MotusExpert
from crossroads.towers.wan import Wan

ASKED = {
    "joint": {"video", "action"},
    "vla": {"action"},
    "world": {"video", "action"},
    "inverse": {"video", "action"},
    "video": {"video"},
}
every_question = pytest.mark.parametrize("name", sorted(QUESTIONS))


@pytest.fixture(scope="module")
def policies() -> dict[str, StreamPolicy]:
    """One network's weights under five schedules."""
    found = {name: build(motus(question=question), ROBOT, seed=1) for name, question in QUESTIONS.items()}
    for policy in found.values():
        policy.load_state_dict(found["joint"].state_dict())
    return found


def settled(policy: StreamPolicy, known: Mapping[str, Tensor] | None = None, seed: int = 3) -> dict[str, Tensor]:
    obs = nano_batch(policy.recipe).obs
    return dict(policy.settle(obs, generator=seeded(seed), known=known or {}).streams)


def watched(policy: StreamPolicy) -> tuple[Settled, list[dict[str, float]]]:
    """What the schedule settles, and the level at which each pass shows each group."""
    shown: list[dict[str, float]] = []

    def note(_: nn.Module, given: tuple[Mapping[str, GroupInput], ...]) -> None:
        shown.append({name: part.level[0, 0].item() for name, part in given[0].items()})

    handle = policy.net.register_forward_pre_hook(note)
    try:
        return policy.settle(nano_batch(policy.recipe).obs, generator=seeded()), shown
    finally:
        handle.remove()


@every_question
@torch.no_grad()
def test_each_question_denoises_what_it_asks_and_shows_the_rest_at_its_level(
    name: str, policies: dict[str, StreamPolicy]
) -> None:
    policy, steps = policies[name], DENOISING_STEPS
    result, shown = watched(policy)
    assert set(result.streams) == ASKED[name]
    passes = [levels for levels in shown if "action" in levels]
    grid = [1 - step / steps for step in range(steps)]
    num = {"joint": 1, "vla": 1, "video": 1, "world": 2, "inverse": 2}[name]
    expected = {"video": [1.0] * steps * num, "action": [1.0] * steps * num}
    for leg, streams in enumerate(QUESTIONS[name].legs):
        for stream in streams:
            expected[stream] = [1.0] * steps * leg + grid + [0.0] * steps * (num - leg - 1)
    assert {stream: [levels[stream] for levels in passes] for stream in expected} == {
        stream: pytest.approx(levels) for stream, levels in expected.items()
    }


@every_question
def test_the_paradigm_of_each_question_is_the_computed_one(name: str, policies: dict[str, StreamPolicy]) -> None:
    assert computed(policies[name].recipe) == policies[name].recipe.axes


def test_a_world_model_shows_what_given_actions_lead_to(policies: dict[str, StreamPolicy]) -> None:
    policy = policies["world"]
    actions = torch.randn(2, 12, 4, generator=seeded(5))
    still, moving = (settled(policy, {"action": value}) for value in (torch.zeros_like(actions), actions))
    torch.testing.assert_close(moving["action"], actions, atol=1e-5, rtol=0)
    assert (moving["video"] - still["video"]).abs().max() > 1e-3


def test_inverse_dynamics_reads_the_given_video(policies: dict[str, StreamPolicy]) -> None:
    policy = policies["inverse"]
    shape = (2, *policy.net.own_codec("video").latent_shape("noised"))
    clip = torch.randn(shape, generator=seeded(5))
    one, other = (settled(policy, {"video": value}) for value in (clip, -clip))
    torch.testing.assert_close(one["video"], clip, atol=1e-5, rtol=0)
    assert (one["action"] - other["action"]).abs().max() > 1e-3


def test_the_questions_differ_in_schedule_and_paradigm_alone() -> None:
    varied = motus().vary({"stage.schedule": motus(question=QUESTIONS["vla"]).stage.schedule})
    assert replace(varied, axes=motus(question=QUESTIONS["vla"]).axes) == motus(question=QUESTIONS["vla"])
    assert len({motus(question=question).stage.schedule for question in QUESTIONS.values()}) == len(QUESTIONS) == 5


def test_clean_views_are_told_the_level_of_what_is_noised_beside_them(policies: dict[str, StreamPolicy]) -> None:
    """Keys of the first layer depend on a group's own tokens and on what its tower is told."""
    policy = policies["joint"]
    prepared = policy.prepare(nano_batch(policy.recipe), policy.groups(), seeded())

    def first_keys(**levels: float) -> dict[str, Tensor]:
        changed = {name: torch.full_like(prepared.levels[name], level) for name, level in levels.items()}
        told = {name: policy.net.layout.teller(name) for name in prepared.levels}
        changed |= {name: changed[teller] for name, teller in told.items() if teller in changed}
        shown = replace(prepared, levels={**prepared.levels, **changed})
        with torch.no_grad():
            states = policy.net(policy.inputs(shown, frozenset(shown.latents), {}), {})
        return {name: state.keys[0] for name, state in states.items() if state.keys}

    base = first_keys(video=0.2, action=0.2)

    def moved(**levels: float) -> set[str]:
        return {name for name, keys in first_keys(**levels).items() if not torch.equal(keys, base[name])}

    assert moved(video=0.2, action=0.9) == {"action", "state", "registers"}
    assert moved(video=0.9, action=0.2) == {"video", "video.now"}


def test_shipped_backbones_fill_the_towers_that_name_them(policies: dict[str, StreamPolicy]) -> None:
    policy = build(motus(), ROBOT, seed=2)
    before = {name: weight.clone() for name, weight in policy.net.state_dict().items()}
    assert sorted(load_backbones(policy)) == ["nano_video", "nano_vlm"]
    after = policy.net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    filled = set(policy.net.weight_names(["text", "video", "language"]).values())
    assert changed <= filled
    assert {name for name in filled if ".blocks." in name} <= changed
    assert not [name for name in changed if ".expert." in name]


def test_published_experts_weigh_what_the_paper_says() -> None:
    """641.5 M for the action expert, 253.5 M for the understanding expert (arXiv 2512.13030, table of sizes)."""
    parts = parameters(recipe("motus", "published")).parts
    action = sum(parts[part] for part in ("towers.expert", "codecs.action", "codecs.state", "codecs.registers"))
    assert action == pytest.approx(641.5e6, rel=1e-3)
    assert parts["towers.language"] + parts["codecs.image"] == pytest.approx(253.5e6, rel=1e-3)


WORDS = 8
ACTS = MotusExpert(width=12, mlp=16, depth=2, heads=2, head_dim=8, acts=True, frequency_width=16)
TINY = replace(
    PUBLISHED,
    text=TextFeatures(source="none", width=WORDS, max_tokens=4),
    text_tower=Given(width=WORDS),
    video_tower=Wan(
        width=20, mlp=24, depth=2, heads=2, head_dim=8, rotary=(4, 2, 2), frequency_width=16, context_width=WORDS
    ),
    image=SceneFeatures(
        model=QwenVision(source="none", width=10), cameras=("front",), image_hw=(64, 64), max_words=3, hidden=(14, 14)
    ),
    language=replace(ACTS, width=14, acts=False),
    state=StateToken(num_state=5, hidden=(12, 12), activation="silu"),
    action=replace(PUBLISHED.action, hidden=(12, 12)),
    expert=ACTS,
)
RELEASED = Official(recipe=motus(TINY), names=motus_names(TINY), unused=UNUSED)


def test_the_official_layout_goes_in_and_comes_out_again(tmp_path: Path) -> None:
    """With what the release holds beside the weights: a table of places, the frozen models, modules listed twice."""
    beside = ("action_expert.input_encoder.pos_embedding", "vlm_model.lm_head.weight", "video_module.grid.weight")
    given = goes_in_and_comes_out(RELEASED, tmp_path, beside)
    assert "video_model.wan_model.blocks.1.cross_attn.q.weight" in given
    assert given["und_expert.blocks.0.wan_und_qkv"].shape == (3, 2, 14, 8)


def test_weights_and_work_of_both_experts_are_the_counted_ones() -> None:
    """Of the published kind, which nano has for the actions alone."""
    weighs_and_works_as_said(RELEASED)


def test_registers_are_learned_and_stand_behind_the_actions() -> None:
    net = build_net(RELEASED.recipe.stage)
    codec = net.codec("registers")
    assert codec.grid("now", 4)[:, 0].tolist() == [17.0, 18.0, 19.0, 20.0]
    assert codec.grid("now", 4)[0, 0] == 1 + net.codec("action").grid("noised", 16)[-1, 0]
    tokens = codec.embed(torch.zeros(3, 4, 0), torch.zeros(3, 1))
    assert tokens.shape == (3, 4, 12)
    tokens.sum().backward()
    assert net.get_parameter("codecs.registers.tokens").grad is not None
    assert LearnedTokens(num=4).views == (NOW.kind,)
