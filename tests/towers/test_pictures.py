"""Networks that draw pictures: words that are not there, pictures of one call, steering that starts as nothing."""

from __future__ import annotations

import pytest
import torch

from crossroads.errors import InputError
from crossroads.towers.forward import ForwardTower, Told
from crossroads.towers.painter import Painter
from crossroads.towers.planner_unet import PlannerUNet, Resampler
from crossroads.towers.spec import Context

PLANNER = PlannerUNet(
    frames=2,
    latent_hw=(4, 4),
    channels=3,
    beside=3,
    base=8,
    blocks=1,
    multiples=(1, 2),
    attends=(2,),
    head_channels=4,
    context_width=6,
    resampler=Resampler(heads=1, head_dim=4, depth=1, latents=2, pooled=1, places=8),
    num_steps=10,
    groups=4,
)
PAINTER = Painter(
    latent_hw=(4, 4),
    channels=4,
    block_channels=(8, 8),
    attends=(True, False),
    heads=(1, 1),
    context_width=6,
    steering=(4, 8),
    layers=1,
    groups=4,
)
LEVEL = torch.full((2, 1), 0.5)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def read(hidden: torch.Tensor, valid: torch.Tensor | None = None) -> tuple[Context, ...]:
    return (Context(hidden=hidden, valid=torch.ones(hidden.shape[:2], dtype=torch.bool) if valid is None else valid),)


@torch.no_grad()
def test_a_planner_reads_no_words_that_are_not_there_and_all_that_are() -> None:
    torch.manual_seed(0)
    frame, x, words = PLANNER.frame().eval(), drawn(2, 32, 6), drawn(2, 4, 6)
    short = frame.enter(x, Told(level=LEVEL, contexts=read(words[:, :2])))
    valid = torch.tensor([[True, True, False, False]]).expand(2, -1)
    torch.testing.assert_close(frame.enter(x, Told(level=LEVEL, contexts=read(words, valid))), short)
    assert not torch.allclose(frame.enter(x, Told(level=LEVEL, contexts=read(words))), short)
    assert not torch.allclose(frame.enter(x, Told(level=LEVEL / 2, contexts=read(words[:, :2]))), short)


@torch.no_grad()
def test_pictures_of_one_call_do_not_mix_and_steering_starts_as_nothing() -> None:
    torch.manual_seed(0)
    frame, x, words = PAINTER.frame().eval(), drawn(2, 32, PAINTER.width), drawn(2, 3, 6)
    both = frame.enter(x, Told(level=LEVEL, contexts=read(words)))
    other = x.clone()
    other[:, 16:] = 0
    torch.testing.assert_close(frame.enter(other, Told(level=LEVEL, contexts=read(words)))[:, :16], both[:, :16])
    other = x.clone()
    other[..., 4:] = 0  # the steering picture
    torch.testing.assert_close(frame.enter(other, Told(level=LEVEL, contexts=read(words))), both, rtol=0, atol=0)
    for part in frame.controlnet.controlnet_down_blocks.parameters():
        part.normal_(std=0.1)
    steered = [frame.enter(given, Told(level=LEVEL, contexts=read(words))) for given in (x, other)]
    assert not torch.allclose(steered[0], both)
    assert torch.isfinite(steered[1]).all()


@pytest.mark.parametrize("spec", [PLANNER, PAINTER])
def test_cost_is_told_without_weights_and_words_are_asked_for(spec: ForwardTower) -> None:
    frame = spec.frame()
    assert spec.num_parameters() == sum(weight.numel() for weight in frame.parameters())
    assert spec.call_flops(32, {6: 3}) > 0
    with pytest.raises(InputError, match="cross edge from the words"):
        frame.enter(drawn(2, 32, spec.width), Told(level=LEVEL, contexts=()))
