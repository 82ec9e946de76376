"""Towers that are called as a whole: no blocks to drive, no softmax to join; what others may read are their taps.

A convolutional network (the UNets of Stable Video Diffusion, of AVDC) has no cut around a softmax. It reads other
towers across, answers in one call of its frame's ``enter``, and leaves feature maps at taps, which other towers read
by cross edges. What a call costs is counted by making one with tensors that hold no numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.errors import InputError
from crossroads.towers.spec import Context, Crossed, Heads, Places, TowerSpec


@dataclass(frozen=True, kw_only=True)
class ForwardTower(ABC):
    """The value that describes such a tower. Without fields, so that it is in no fingerprint."""

    if TYPE_CHECKING:

        @property
        def width(self) -> int:
            """Numbers of a token as the network takes it."""
            ...

    @property
    def geometry(self) -> Heads:
        return Heads(depth=0, heads=0, kv_heads=0, head_dim=0)

    @property
    @abstractmethod
    def num_taps(self) -> int:
        """How many places of it can be read."""

    @abstractmethod
    def tap_width(self, tap: int) -> int:
        """Numbers of a token that is read at a tap."""

    @abstractmethod
    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        """How many tokens are read at a tap of a group of ``num_tokens``."""

    @abstractmethod
    def frame(self) -> ForwardFrame:
        """A module with fresh weights."""

    def num_parameters(self) -> int:
        return _weights(self)

    def call_flops(self, num_tokens: int, context: Crossed) -> int:
        """One call for one sample."""
        return _flops(self, num_tokens, tuple(sorted(context.items())))

    def kept(self, num_tokens: int, context: Crossed) -> tuple[int, int]:
        """The numbers that autograd keeps of a call, in the precision of matrix products and in float32."""
        return _kept(self, num_tokens, tuple(sorted(context.items())))

    def backward_flops(self, num_tokens: int, context: Crossed, taking: frozenset[int], embedded: bool) -> int:
        """The backward pass of a trained one. ``taking``: the widths of what is read that take a gradient;
        ``embedded``: its tokens take one."""
        return _backward(self, num_tokens, tuple(sorted(context.items())), taking, embedded)

    def layer_flops(self, num_tokens: int, context: Crossed) -> int:
        return 0

    def key_flops(self, num_tokens: int) -> int:
        return 0

    def frame_flops(self, num_levels: int, context: Crossed) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a call is given beside its tokens, and, once it was made, the feature maps it left: by tap, ``b m c``."""

    level: Float[Tensor, "b g"]
    contexts: tuple[Context, ...]
    taps: dict[int, Tensor] = field(default_factory=dict)


class ForwardFrame(nn.Module):
    """The module of a :class:`ForwardTower`: ``enter`` makes the call."""

    def condition(
        self,
        level: Float[Tensor, "b g"],
        counts: tuple[int, ...],
        places: Places,
        contexts: tuple[Context, ...],
        modulation: Tensor | None,
    ) -> Told:
        if modulation is not None or len(set(counts)) > 1:
            raise InputError(
                where=type(self).__name__,
                expected="no modulate edge, and as many tokens at each level",
                got=f"runs of {counts} tokens" if modulation is None else "a modulate edge",
                do="Read the other group across; give each clip one level.",
            )
        return Told(level=level, contexts=contexts)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n v"]:
        raise NotImplementedError  # abstract

    def finish(self, x: Float[Tensor, "b n v"], condition: Told) -> Float[Tensor, "b n v"]:
        return x


def taps_by_group(told: Told, wanted: Mapping[str, Collection[int]]) -> dict[str, dict[int, Tensor]]:
    """The feature maps of one call that anybody reads, group by group: groups are alike, one behind the other."""
    parts = {at: tap.chunk(len(wanted), dim=1) for at, tap in told.taps.items()}
    return {name: {at: parts[at][index] for at in sorted(taps)} for index, (name, taps) in enumerate(wanted.items())}


def taps_of(spec: TowerSpec) -> int:
    """At how many places a tower can be read: behind each layer, or where it is called as a whole at its taps."""
    return spec.num_taps if isinstance(spec, ForwardTower) else spec.geometry.depth


def read_width(spec: TowerSpec, tap: int | None) -> int:
    """Numbers of a token that is read of a tower."""
    return spec.tap_width(tap) if isinstance(spec, ForwardTower) and tap is not None else spec.width


def read_tokens(spec: TowerSpec, num_tokens: int, tap: int | None) -> int:
    """How many tokens are read of a group of ``num_tokens``."""
    return spec.tap_tokens(num_tokens, tap) if isinstance(spec, ForwardTower) and tap is not None else num_tokens


@cache
def _weights(spec: ForwardTower) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in spec.frame().parameters())


@cache
def _flops(spec: ForwardTower, num_tokens: int, context: tuple[tuple[int, int], ...]) -> int:
    with torch.device("meta"):
        frame, x, told = _fake(spec, num_tokens, context, frozenset(), False)
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            frame.enter(x, told)
    return counter.get_total_flops()


@cache
def _kept(spec: ForwardTower, num_tokens: int, context: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    with FakeTensorMode():
        num = 4  # samples, so that what is kept once for all of them counts little
        frame, x, told = _fake(spec, num_tokens, context, frozenset(width for width, _ in context), False, num)
        return kept_by(frame, lambda: frame.enter(x, told), num)


def kept_by(module: nn.Module, call: Callable[[], object], num: int) -> tuple[int, int]:
    """The numbers that autograd keeps of a call for each of ``num`` samples, in the precision of matrix products and in
    float32; tensors may be fake."""
    numbers, mixed = (_saved(module, call, mixed=mixed) // num for mixed in (False, True))
    numbers //= 4
    # Where products are narrow a number takes 2 bytes instead of 4; those that still take 4 are the wide ones.
    wide = max(0, mixed - 2 * numbers) // 2
    return numbers - wide, wide


@cache
def _backward(
    spec: ForwardTower, num_tokens: int, context: tuple[tuple[int, int], ...], taking: frozenset[int], embedded: bool
) -> int:
    with torch.device("meta"):
        frame, x, told = _fake(spec, num_tokens, context, taking, embedded)
        with sdpa_kernel(SDPBackend.MATH):  # the counter knows no fused attention of a CPU
            out = torch.cat([part.flatten() for part in (frame.enter(x, told), *told.taps.values())])
        with FlopCounterMode(display=False) as counter:
            out.sum().backward()
    return counter.get_total_flops()


def _fake(
    spec: ForwardTower,
    num_tokens: int,
    context: tuple[tuple[int, int], ...],
    taking: frozenset[int],
    embedded: bool,
    batch: int = 1,
) -> tuple[ForwardFrame, Tensor, Told]:
    """A frame and what one call is given; ``taking``: the widths of what is read that take a gradient."""
    frame = spec.frame()
    if torch.get_default_device().type == "meta":
        frame = frame.to("meta")  # diffusers makes some weights on the CPU in any case
    x = torch.zeros(batch, num_tokens, spec.width, requires_grad=embedded)
    places = Places(index=torch.zeros(batch, num_tokens), grid=torch.zeros(num_tokens, 3))
    read = []
    for width, num in context:
        hidden = torch.zeros(batch, num, width, requires_grad=width in taking)
        read.append(Context(hidden=hidden, valid=torch.ones(batch, num, dtype=torch.bool)))
    return frame, x, frame.condition(torch.zeros(batch, 1), (num_tokens,), places, tuple(read), None)


def _saved(module: nn.Module, call: Callable[[], object], *, mixed: bool) -> int:
    """Bytes that autograd keeps of a call, its weights and their copies left out."""
    weights = {shape for weight in module.parameters() for shape in (tuple(weight.shape), tuple(weight.shape[::-1]))}
    kept: dict[int, Tensor] = {}

    def keep(saved: Tensor) -> Tensor:
        """By shape: a copy of a weight in another precision has its shape and no other mark."""
        if tuple(saved.shape) not in weights:
            kept[saved.untyped_storage()._cdata] = saved
        return saved

    with saved_tensors_hooks(keep, lambda saved: saved), torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        out = call()
    total = sum(saved.untyped_storage().nbytes() for saved in kept.values())
    del out
    return total
