"""X-VLA: what the transformer does not see, what is each robot's own, and how clean answers become actions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of, seeded
from nano_batch import nano_batch
from torch.testing import assert_close

from crossroads.codecs.banks import BankedVectors
from crossroads.codecs.florence import FlorenceCodec, FlorencePictures, FlorenceViews
from crossroads.codecs.soft_actions import SoftActionCodec, SoftActions, SoftPromptCodec, SoftPrompts, slow_waves
from crossroads.diffusion import Part, Renoise, Straight
from crossroads.errors import InputError
from crossroads.recipes.xvla_sizes import EE6D, PUBLISHED, ROBOTS

TINY = FlorencePictures(
    cameras=("front",),
    image_hw=(32, 32),
    width=8,
    widths=(4, 4, 8, 8),
    depths=(1, 1, 1, 1),
    heads=(1, 1, 2, 2),
    groups=(1, 1, 2, 2),
    window_size=2,
    num_places=3,
)


def test_columns_that_are_not_seen_change_nothing_and_others_do() -> None:
    policy = policy_of("xvla")
    codec = policy.net.get_submodule("codecs.action")
    assert isinstance(codec, SoftActionCodec)
    shown = torch.randn(2, 12, 8, generator=seeded())
    level = torch.tensor([[0.3], [0.9]])
    before = codec.embed(shown, level)
    for column in range(8):
        moved = shown.clone()
        moved[..., column] += 1
        assert torch.equal(codec.embed(moved, level), before) == (column in (3, 4 + 3))


def test_each_robot_has_prompts_and_ends_of_its_own() -> None:
    robots = ("a", "b", "c")
    spec = SoftActions(num_actions=3, action_size=2, control_hz=1.0, num_state=2, waves=4, robots=robots)
    codec, prompts = SoftActionCodec(spec, 6), SoftPromptCodec(SoftPrompts(num=2, robots=robots), 6)
    modules = [module for module in (*codec.modules(), *prompts.modules()) if hasattr(module, "bank")]
    for module in modules:
        if hasattr(module, "address"):
            module.address(("c", "a"))  # pyright: ignore[reportCallIssue]
    tokens = codec.embed(torch.ones(2, 3, 4), torch.zeros(2, 1))
    (codec.read(tokens).sum() + prompts.embed(torch.zeros(2, 2, 0), torch.zeros(2, 1)).sum()).backward()
    for parameter in (*codec.parameters(), *prompts.parameters()):
        assert parameter.grad is not None
        assert not parameter.grad[1].any()
        assert bool(parameter.grad[0].any())
        assert bool(parameter.grad[2].any())
    assert sum(p.numel() for p in codec.parameters()) == spec.num_parameters(6)
    assert sum(p.numel() for p in prompts.parameters()) == SoftPrompts(num=2, robots=robots).num_parameters(6)
    with pytest.raises(InputError, match="bank of weights per robot"):
        prompts.bank.address(("d",))


def test_vectors_of_a_robot_that_has_no_bank_are_shared_by_all() -> None:
    shared = BankedVectors(3, ("",), 1.0)
    shared.address(("anybody", "nobody"))
    assert torch.equal(shared.of(2), shared.bias.expand(2, 3))


def test_noise_is_put_back_as_it_was_and_the_last_answer_is_returned() -> None:
    noise, asked = torch.randn(2, 5, generator=seeded()), []

    def answer(x: torch.Tensor, level: float) -> torch.Tensor:
        asked.append((x, level))
        return torch.full_like(x, len(asked))

    ended = Renoise(process=Straight(), steps=4).solve(noise, answer)
    assert ended.tolist() == torch.full((2, 5), 4.0).tolist()
    assert [level for _, level in asked] == [1.0, 0.75, 0.5, 0.25]
    for number, (x, level) in enumerate(asked):
        assert_close(x, level * noise + (1 - level) * number)


def test_levels_of_a_batch_lie_evenly() -> None:
    drawn = Straight().draw(8, 1, seeded()).flatten()
    assert_close(drawn.sort().values.diff(), torch.full((7,), 1 / 8), atol=1e-4, rtol=0)
    assert not torch.equal(drawn, Straight().draw(8, 1, seeded(1)).flatten())


def test_parts_count_by_their_weights_and_scores_by_cross_entropy() -> None:
    answer, owed = torch.randn(2, 3, 20, generator=seeded()), torch.rand(2, 3, 20, generator=seeded(1))
    parts = Straight(parts=EE6D).error(answer, owed)
    square = (answer - owed) ** 2
    scores = torch.nn.functional.binary_cross_entropy_with_logits(answer, owed, reduction="none")
    wanted = 500 * (square[..., :3].mean(-1) + square[..., 10:13].mean(-1))
    wanted += 10 * (square[..., 3:9].mean(-1) + square[..., 13:19].mean(-1)) + scores[..., [9, 19]].mean(-1)
    assert_close(parts, wanted)
    assert {column for part in EE6D for column in part.columns} == set(range(20))
    assert_close(Straight(parts=(Part(columns=tuple(range(20))),)).error(answer, owed), Straight().error(answer, owed))


def test_scores_need_actions_in_their_own_units() -> None:
    with pytest.raises(InputError, match="normaliser 'none'"):
        replace(PUBLISHED.action, normaliser="mean_std")
    codec = SoftActionCodec(replace(PUBLISHED.action, robots=(), waves=2), 4)
    decoded = codec.decode(torch.zeros(1, 32, 20))
    assert [column for column in range(20) if decoded[0, 0, column] == 0.5] == [9, 19]
    assert len(ROBOTS) == 30


def test_further_cameras_go_through_the_network_of_the_first() -> None:
    first = FlorenceCodec(TINY, 8).eval()
    others = FlorenceCodec(FlorenceViews(**{**vars(TINY), "cameras": ("left", "right")}), 8).eval()
    others.through(first)
    assert list(others.parameters()) == []
    seen = torch.randint(0, 256, (2, 2, 32, 32, 3), generator=seeded())
    with torch.no_grad():
        both = others.embed(seen, torch.zeros(2, 1))
        alone = [first.embed(seen[:, camera : camera + 1], torch.zeros(2, 1)) for camera in range(2)]
    assert both.shape == (2, others.spec.num_tokens("now"), 8) == (2, 2 * 2, 8)
    assert_close(both, torch.cat(alone, dim=1))
    assert sum(weight.numel() for weight in first.parameters()) == TINY.num_parameters(8)


def test_waves_are_slow_and_of_any_width() -> None:
    level = torch.tensor([[0.0, 0.5]])
    waves = slow_waves(level, 5)
    assert_close(waves[0, 0], torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]))
    assert_close(waves[0, 1, :2], torch.tensor([0.5, 0.05]).cos())


def test_the_language_model_is_read_once_while_actions_are_answered() -> None:
    policy = policy_of("xvla")
    assert policy.net.layout.stable(["action"]) == {"image", "text"}
    obs = nano_batch(policy.recipe).obs
    told = replace(obs, text=tuple(reversed(obs.text)))
    ours, theirs = (policy.settle(one, generator=seeded()).streams["action"] for one in (obs, told))
    assert not torch.equal(ours, theirs) or len(set(obs.text)) == 1
