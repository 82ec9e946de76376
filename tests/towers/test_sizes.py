"""Weights and work of a video tower, from its specification alone, are the counted ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.errors import InputError
from crossroads.parity.alone import Alone
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.wan import Wan

WORDS, IMAGES = 16, 12
COSMOS = Cosmos(
    width=48, mlp=96, depth=2, heads=2, head_dim=24, rotary=(8, 8, 8), modulation_width=4, context_width=WORDS
)
WAN = Wan(width=24, mlp=48, depth=2, heads=2, head_dim=12, rotary=(4, 4, 4), frequency_width=16, context_width=WORDS)
SMALL = Alone(tower=WAN, channels=4, latents=(3, 6, 4), patch=2, num_words=7)
ALONE = {
    "Wan": SMALL,
    "Wan with images": replace(SMALL, tower=replace(WAN, image_width=IMAGES), num_images=5, beside=8),
    "Cosmos": replace(SMALL, tower=COSMOS),
}


@pytest.mark.parametrize("words", [0, IMAGES])
def test_images_that_could_be_taken_for_words_are_refused(words: int) -> None:
    with pytest.raises(InputError, match="told apart by their widths"):
        replace(WAN, context_width=words, image_width=IMAGES)


@pytest.mark.parametrize("alone", ALONE.values(), ids=ALONE)
def test_weights_are_the_counted_ones(alone: Alone) -> None:
    net = alone.net()
    found = sum(net.get_parameter(name).numel() for name in net.weight_names(["video"]).values())
    codec = net.codec("video").spec  # pyright: ignore[reportAttributeAccessIssue]
    assert found == alone.tower.num_parameters() + codec.num_parameters(alone.tower.width)


@pytest.mark.parametrize("alone", ALONE.values(), ids=ALONE)
def test_flops_are_the_counted_ones(alone: Alone) -> None:
    net = alone.net()
    x, words = torch.randn(1, 4, 3, 6, 4), torch.randn(1, 7, WORDS)
    images = torch.randn(1, alone.num_images, IMAGES) if alone.num_images else None
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        alone.answer(net, alone.inputs(net, x, torch.tensor([[0.5]]), words, images))
    assert counter.get_total_flops() == alone.flops()
