"""What the backward pass keeps of networks that are learned inside a codec: counted by calls without numbers.

Each gives the numbers that one sample keeps, in the precision of matrix products and in float32.
"""

from __future__ import annotations

from functools import cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from crossroads.codecs.motion import MotionClip, MotionClipCodec
from crossroads.codecs.percepts import PerceptCodec, Percepts
from crossroads.codecs.told_actions import ToldActionCodec, ToldActions
from crossroads.towers.forward import kept_by

SAMPLES = 4
"""So many at once, so that what is kept once for all of them counts little."""


@cache
def kept_of_motion(codec: MotionClip) -> tuple[int, int]:
    """A model of motion, which is learned inside its codec."""
    num = SAMPLES
    with FakeTensorMode():
        net = MotionClipCodec(codec, codec.size).eval()
        shown = torch.zeros(num, codec.num_tokens("noised"), 3 * codec.size)
        return kept_by(net, lambda: net.embed(shown, torch.zeros(num, 1)), num)


@cache
def kept_of_percepts(codec: Percepts, moments: int) -> tuple[int, int]:
    """Picture networks that are learned inside their codec."""
    num = SAMPLES
    with FakeTensorMode():
        net = PerceptCodec(codec, codec.width).eval()
        shown = torch.zeros(num, moments, codec.size)
        return kept_by(net, lambda: net.embed(shown, torch.zeros(num, 1)), num)


@cache
def kept_of_told(codec: ToldActions, width: int) -> tuple[int, int]:
    """What a mixture costs."""
    num, n = SAMPLES, codec.num_tokens("noised")
    with FakeTensorMode():
        net = ToldActionCodec(codec, width)
        hidden, target = torch.zeros(num, n, width, requires_grad=True), torch.zeros(num, n, codec.action_size)
        return kept_by(net, lambda: codec.law.loss(net.read(hidden), target), num)
