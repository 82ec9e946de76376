"""Encodes a clip as its frames arrive: one frame, then groups of four, each seeing only what came before it.

Causal video autoencoders (Wan, arXiv 2503.20314, section 4.1, "feature cache mechanism") need of the past only the last
frames that entered each causal convolution. Here that past is a value, passed in and out, so that one network serves
many clips at once; the concatenated latents are those of the whole clip, and memory does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.errors import InputError

GROUP = 4
"""Frames of every latent but the first, which stands for one."""

Past = tuple[Tensor | None, ...]
"""What each causal convolution remembers, in the network's own order; empty before the first frame."""


class AutoencoderSpec(Protocol):
    """The sizes that streaming and tiling ask an autoencoder for."""

    @property
    def channels(self) -> int: ...

    @property
    def space_factor(self) -> int: ...

    def latent_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]: ...


class CausalEncoder(Protocol):
    """An autoencoder that can encode the next group of a clip from what it remembers of the groups before."""

    @property
    def spec(self) -> AutoencoderSpec: ...

    def encode_group(
        self, pixels: Float[Tensor, "b t h w 3"], past: Past
    ) -> tuple[Float[Tensor, "b 1 h2 w2 c"], Past]: ...


@dataclass(frozen=True, kw_only=True)
class EncoderState:
    """How far a clip is encoded: frames that do not fill a group yet, and the past of the encoder."""

    pending: Float[Tensor, "b p h w 3"] | None = None
    past: Past = ()

    @property
    def num_pending(self) -> int:
        return 0 if self.pending is None else self.pending.shape[1]

    def rows(self, rows: Tensor) -> EncoderState:
        """How far some of the clips are encoded."""
        pending = None if self.pending is None else self.pending[rows]
        return EncoderState(pending=pending, past=tuple(None if kept is None else kept[rows] for kept in self.past))


@torch.no_grad()
def encode_stream(
    net: CausalEncoder, pixels: Float[Tensor, "b t h w 3"], state: EncoderState
) -> tuple[Float[Tensor, "b t2 h2 w2 c"], EncoderState]:
    """The latents that the next frames (pixels in -1..1, any number of them) complete, none or more, and the new state.

    ``EncoderState()`` starts a clip. The state given is left as it was, so that a clip can branch.
    """
    waiting = pixels if state.pending is None else torch.cat([state.pending, pixels], dim=1)
    past, start, found = state.past, 0, []
    while waiting.shape[1] - start >= (size := GROUP if past else 1):
        latent, past = net.encode_group(waiting[:, start : start + size], past)
        found.append(latent)
        start += size
    # a copy: a view would keep the frames before it in memory
    pending = waiting[:, start:].clone() if start < waiting.shape[1] else None
    if found:
        return torch.cat(found, dim=1), EncoderState(pending=pending, past=past)
    rows, columns = net.spec.latent_hw((pixels.shape[2], pixels.shape[3]))
    none = pixels.new_zeros(len(pixels), 0, rows, columns, net.spec.channels)
    return none, EncoderState(pending=pending, past=past)


def encode_chunks(net: CausalEncoder, chunks: Iterable[Float[Tensor, "b t h w 3"]]) -> Float[Tensor, "b t2 h2 w2 c"]:
    """The latents of a long clip that comes in chunks of any length; of a generator's chunks only one is kept.

    Raises ``InputError`` unless the clip has ``1 + 4 k`` frames: what is left of a group has no latent.
    """
    state, found, num_frames = EncoderState(), [], 0
    for chunk in chunks:
        latents, state = encode_stream(net, chunk, state)
        num_frames += chunk.shape[1]
        found.append(latents)
    if not num_frames or state.num_pending:
        raise InputError(
            where="encode_chunks",
            expected=f"1 + {GROUP} k frames",
            got=str(num_frames),
            do=f"Leave out the last {state.num_pending}." if num_frames else "Give at least one frame.",
        )
    return torch.cat(found, dim=1)
