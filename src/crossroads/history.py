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
from crossroads.towers.group import GroupState
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class History:
    """``num_blocks`` blocks that are over: what was observed at their starts and at that of the block that comes next,
    the frames since the first, their latents and, for as many of them as have been run, their states (``blank``: those
    of guidance, under other words).

    Its samples began together; they may end one by one (``rows``).
    """

    starts: tuple[Observation, ...]
    num_blocks: int
    frames: Mapping[str, UInt8[Tensor, "b f h w 3"]]
    latents: Mapping[str, Latent]
    states: Mapping[str, GroupState]
    blank: Mapping[str, GroupState]
    encoder: EncoderState = field(default_factory=EncoderState)
    """What the encoder remembers of the frames; without it, all of them are encoded again."""

    @property
    def first(self) -> Observation:
        return self.starts[0]

    def rows(self, rows: Tensor) -> History:
        """What lies behind some of the samples."""
        return History(
            starts=tuple(start.rows(rows) for start in self.starts),
            num_blocks=self.num_blocks,
            frames={camera: frames[rows] for camera, frames in self.frames.items()},
            latents={name: latent.rows(rows) for name, latent in self.latents.items()},
            states={name: state.rows(rows) for name, state in self.states.items()},
            blank={name: state.rows(rows) for name, state in self.blank.items()},
            encoder=self.encoder.rows(rows),
        )

    def told(self, text: tuple[str, ...]) -> History:
        """The same past as guidance sees it, under other words."""
        return replace(self, starts=tuple(start.told(text) for start in self.starts), states=self.blank)

    def without_oldest(self, net: StreamNet, num_frames: int) -> History:
        """The same without its first block, counted from the frame at that block's end; everything is to be encoded
        and run anew.

        ``num_frames``: those of a block.
        """
        kept: dict[str, Latent] = {}
        for name, latent in self.latents.items():
            group, num = net.group(name), net.layout.clock.per_block(net.group(name).stream.name)
            if group.view.kind == "clean":
                beside = None if latent.beside is None else latent.beside[:, num:]
                kept[name] = Latent(values=latent.values[:, num:], valid=latent.valid[:, num:], beside=beside)
        return History(
            starts=self.starts[1:],
            num_blocks=self.num_blocks - 1,
            frames={camera: frames[:, num_frames:] for camera, frames in self.frames.items()},
            latents=kept,
            states={},
            blank={},
        )


def continued(history: History | None, obs: Observation, stream: Stream, net: StreamNet) -> History | None:
    """The history once the block in which the frames of ``obs.passed`` were seen is over; None where it starts anew.

    It starts anew without such frames and under other words. When all blocks that training shows are over, it starts
    anew as well if anything reads them without a window (DreamZero's server: when its frames have filled the window);
    if nothing reads further back than a window, the oldest block is dropped (LingBot-VA's server: when its cache is
    full). Either way nothing is read that training did not show.
    """
    num_blocks = net.layout.clock.num_blocks(stream.name, stream.codec.num_tokens("noised"))
    if history is None or not obs.passed or obs.text != history.first.text or obs.robot != history.first.robot:
        return None
    over = history.num_blocks + 1 >= num_blocks
    if over and not (history.num_blocks and net.layout.windowed):
        return None
    codec = net.own_codec(stream.name)
    assert isinstance(codec, LatentCodec)
    wanted = len(codec.spec.future_s) // num_blocks
    new = _passed(obs, codec.spec.cameras, wanted)
    frames = {c: torch.cat([history.frames[c], new[c]], dim=1) if c in history.frames else new[c] for c in new}
    history = replace(history, num_blocks=history.num_blocks + 1, frames=frames)
    if over:
        history = history.without_oldest(net, wanted)
    clean = stream.group("clean")
    clip, encoder = codec.clip(history.first.images, history.frames, history.latents.get(clean), history.encoder)
    return replace(history, latents={**history.latents, clean: clip}, encoder=encoder)


def looking_back(obs: Observation, seen: tuple[Observation, ...], num_steps: int, *, anew: bool = False) -> Observation:
    """An observation with what was ``seen`` at the calls before it, so that there are at most ``num_steps`` in all;
    where there are as many, the oldest is dropped, or all are (``anew``).

    A policy looks back only where the frames since its last call are given, which says that its calls are as far apart
    as the steps in training; and not past the moment at which it was told other words (as GR-1 empties its queue at
    each new instruction, arXiv 2312.13139).
    """
    same = bool(seen) and bool(obs.passed) and (seen[-1].text, seen[-1].robot) == (obs.text, obs.robot)
    full = anew and len(seen) >= num_steps
    return replace(obs, before=seen[-(num_steps - 1) :]) if same and num_steps > 1 and not full else obs


def _passed(obs: Observation, cameras: tuple[str, ...], wanted: int) -> dict[str, Tensor]:
    """The frames of one block by camera."""
    passed = {camera: obs.passed.get(camera) for camera in cameras}
    got = {camera: 0 if frames is None else frames.shape[1] for camera, frames in passed.items()}
    if set(got.values()) != {wanted}:
        raise InputError(
            where="observation, passed",
            expected=f"the {wanted} frames of each camera since the last call, the present one last",
            got=", ".join(f"{camera} {num}" for camera, num in got.items()),
            do="Give all frames of one block, or none to start anew.",
        )
    return {camera: frames for camera, frames in passed.items() if frames is not None}
