"""The Gemma block whose norms are told the level: fresh, with one level for all tokens, with one for each."""

from __future__ import annotations

import torch
from torch import Tensor

from crossroads.towers.gemma import AdaptiveNorm, Gemma, GemmaBlock, GemmaCondition, GemmaFrame
from crossroads.towers.spec import Places

SPEC = Gemma(width=12, mlp=20, depth=2, heads=2, kv_heads=1, head_dim=6, adaptive=True)
PLACES = Places(index=torch.arange(4.0).expand(3, 4), grid=torch.zeros(4, 3))


def told(frame: GemmaFrame, level: Tensor) -> GemmaCondition:
    return frame.condition(level, (4 // level.shape[1],) * level.shape[1], PLACES, (), None)


def passed(block: GemmaBlock, x: Tensor, condition: GemmaCondition) -> Tensor:
    """A layer in which every token attends to itself alone."""
    qkv, gate = block.before(x, condition)
    return block.after(x, qkv.v.expand(-1, -1, SPEC.heads, -1).flatten(2), gate, condition)


def test_a_fresh_layer_passes_its_tokens_on_unchanged_and_the_last_norm_only_scales_them() -> None:
    torch.manual_seed(0)
    x, frame = torch.randn(3, 4, 12), GemmaFrame(SPEC)
    condition = told(frame, torch.rand(3, 1))
    assert torch.equal(passed(GemmaBlock(SPEC), x, condition), x)
    torch.testing.assert_close(frame.finish(x, condition).pow(2).mean(dim=-1), torch.ones(3, 4), rtol=1e-4, atol=0)


def test_a_token_is_told_its_own_level_whatever_the_others_are_told() -> None:
    torch.manual_seed(0)
    x, frame, block = torch.randn(3, 4, 12), GemmaFrame(SPEC), GemmaBlock(SPEC)
    for module in (*block.modules(), *frame.modules()):
        if isinstance(module, AdaptiveNorm):
            torch.nn.init.normal_(module.told.weight, std=0.3)
    level = torch.rand(3, 4)
    each = passed(block, x, told(frame, level))
    for token in range(4):
        alone = passed(block, x, told(frame, level[:, token : token + 1]))
        torch.testing.assert_close(each[:, token], alone[:, token])
        assert not torch.allclose(each[:, token - 1], alone[:, token - 1])


def test_weights_are_as_many_as_the_specification_says() -> None:
    modules = (GemmaFrame(SPEC), *(GemmaBlock(SPEC) for _ in range(SPEC.depth)))
    assert SPEC.num_parameters() == sum(weight.numel() for module in modules for weight in module.parameters())
