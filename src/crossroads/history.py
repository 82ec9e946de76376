"""What lies behind the block that comes next, for a stage that goes on block by block.

What the cameras showed takes the place of what had been imagined for it (DreamZero, arXiv 2602.15922, section 3;
LingBot-VA, arXiv 2601.21998): it is encoded with all that came before, and its keys and values are kept from call to
call. A history is a value: an interpreter is given one and leaves the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from crossroads.codecs.latents import LatentCodec
from crossroads.codecs.spec import Latent
from crossroads.codecs.streaming import EncoderState
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.streams import Stream
from crossroads.towers.joint import GroupState
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class History:
    """``num_blocks`` blocks that are over: the observation before the first, the frames since, their latents and, for
    as many of them as have been run, their states (``blank``: those of guidance, under other words)."""

    first: Observation
    num_blocks: int
    frames: Mapping[str, UInt8[Tensor, "b f h w 3"]]
    latents: Mapping[str, Latent]
    states: Mapping[str, GroupState]
    blank: Mapping[str, GroupState]
    encoder: EncoderState = field(default_factory=EncoderState)
    """What the encoder remembers of the frames; without it, all of them are encoded again."""


def continued(history: History | None, obs: Observation, stream: Stream, net: StreamNet) -> History | None:
    """The history once the block in which the frames of ``obs.passed`` were seen is over; None where it starts anew.

    It starts anew (as DreamZero's server does) without such frames, under other words, and when the blocks that
    training shows are over.
    """
    num_blocks = net.layout.clock.num_blocks(stream.name, stream.codec.num_tokens("noised"))
    if history is None or not obs.passed or obs.text != history.first.text or obs.robot != history.first.robot:
        return None
    if history.num_blocks + 1 >= num_blocks:
        return None
    codec = net.own_codec(stream.name)
    assert isinstance(codec, LatentCodec)
    wanted = len(codec.spec.future_s) // num_blocks
    passed = {camera: obs.passed.get(camera) for camera in codec.spec.cameras}
    got = {camera: 0 if frames is None else frames.shape[1] for camera, frames in passed.items()}
    if set(got.values()) != {wanted}:
        raise InputError(
            where="observation, passed",
            expected=f"the {wanted} frames of each camera since the last call, the present one last",
            got=", ".join(f"{camera} {num}" for camera, num in got.items()),
            do="Give all frames of one block, or none to start anew.",
        )
    new = {camera: frames for camera, frames in passed.items() if frames is not None}
    frames = {c: torch.cat([history.frames[c], new[c]], dim=1) if c in history.frames else new[c] for c in new}
    clean = stream.group("clean")
    clip, encoder = codec.clip(history.first.images, frames, history.latents.get(clean), history.encoder)
    latents = {**history.latents, clean: clip}
    return replace(history, num_blocks=history.num_blocks + 1, frames=frames, latents=latents, encoder=encoder)
