"""Latent actions in a recipe: a stream that learns them from frames alone, and one that a policy learns to write.

The first, :class:`MotionClip`, is a whole network that only answers (a tower of :class:`Given`): the next frames are
its targets, and what it is shown beside them are the frames themselves. The second, :class:`MotionCodes`, is a few
tokens with a vocabulary of their own, whose targets the first one's model finds in the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from crossroads.codecs.frame_pairs import MotionNet, frames_of, patches_of
from crossroads.codecs.inputs import on_a_line
from crossroads.codecs.lapa_quantiser import LapaQuantiser, LapaQuantiserNet
from crossroads.codecs.motion_transformer import MotionTransformer, MotionTransformerNet
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops
from crossroads.types import NOTHING, Batch, Observation, Window

MODELS: Mapping[type, Callable[[Any], MotionNet]] = {
    LapaQuantiser: LapaQuantiserNet,
    MotionTransformer: MotionTransformerNet,
}


@dataclass(frozen=True, kw_only=True)
class MotionClip:
    """Frames of one camera now and at ``future_s``; a token of the latent is a patch of one of the later frames, and
    where the model owes more than their squared error, one more token for each frame holds the root of that."""

    cameras: tuple[str, ...]
    future_s: tuple[float, ...]
    model: LapaQuantiser | MotionTransformer

    def __post_init__(self) -> None:
        if len(self.cameras) != 1 or not self.future_s:
            raise InputError(
                where="MotionClip",
                expected="one camera, and later frames",
                got=f"{len(self.cameras)} cameras, {len(self.future_s)} later frames",
                do="Latent actions are learned from what one camera sees.",
            )
        if self.model.num_codes * self.model.code_size > self.per_frame * self.size:
            raise InputError(
                where="MotionClip.model",
                expected="latent actions that hold fewer numbers than a frame",
                got=f"{self.model.num_codes} codes of {self.model.code_size}",
                do="Take fewer or smaller ones.",
            )

    @property
    def size(self) -> int:
        """Numbers of a patch: the width of the tower."""
        return 3 * self.model.patch**2

    @property
    def per_frame(self) -> int:
        rows, columns = (side // self.model.patch for side in self.model.image_hw)
        return rows * columns + self.model.owes

    @property
    def weight(self) -> float:
        """Of the loss, a mean over all tokens, so that it is the mean over pixels plus what the model owes."""
        return self.per_frame / (self.per_frame - self.model.owes)

    @property
    def num_frames(self) -> int:
        return 1 + len(self.future_s)

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.per_frame * len(self.future_s)

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.model.image_hw, "future_s": self.future_s}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        return self.model.num_parameters()

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return self.model.flops(self.num_frames)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class MotionClipCodec(nn.Module):
    """The module of :class:`MotionClip`, which holds the model of motion."""

    def __init__(self, spec: MotionClip, width: int) -> None:
        super().__init__()
        if width != spec.size:
            raise InputError(
                where="MotionClip",
                expected=f"a Given tower as wide as a patch ({spec.size})",
                got=str(width),
                do="Give the stream a tower of its own.",
            )
        self.spec = spec
        self.model = MODELS[type(spec.model)](spec.model)

    def frames(self, batch: Batch) -> Float[Tensor, "b t 3 h w"]:
        """Now and later, from 0 to 1."""
        camera = self.spec.cameras[0]
        clip = torch.cat([batch.obs.images[camera][:, None], batch.future[camera]], dim=1)
        return rearrange(clip, "b t h w c -> b t c h w").float() / 255

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("motion is never observed: a recipe with a 'now' view of it is refused")

    def target(self, batch: Batch) -> Latent:
        """The later frames; beside them, each frame and the one after it. Frames behind the end do not count."""
        patches = patches_of(self.frames(batch), self.spec.model.patch)
        later = self._tokens(patches[:, 1:], torch.zeros(()))
        beside = torch.cat([self._tokens(patches[:, :-1], torch.zeros(())), later], dim=-1)
        valid = batch.future_valid.repeat_interleave(self.spec.per_frame, dim=1)
        return Latent(values=later, valid=valid, beside=beside)

    def _tokens(self, patches: Float[Tensor, "b f n p"], owed: Tensor) -> Float[Tensor, "b m p"]:
        """Patches frame by frame, with the token of what is owed behind each frame's."""
        if self.spec.model.owes:
            more = owed.reshape(-1, 1, 1, 1).expand(len(patches), patches.shape[1], 1, patches.shape[3])
            patches = torch.cat([patches, more.to(patches)], dim=2)
        return rearrange(patches, "b f n p -> b (f n) p")

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.size)

    def embed(self, latent: Float[Tensor, "b n p3"], level: Tensor) -> Float[Tensor, "b n p"]:
        """What the model answers to the frames that stand beside; its draws are the noise that is shown."""
        noise, before, later = latent.chunk(3, dim=-1)
        model, num = self.spec.model, len(self.spec.future_s)

        def frames(tokens: Tensor) -> Tensor:
            patches = rearrange(tokens, "b (f n) p -> b f n p", f=num)
            return frames_of(patches[:, :, : self.spec.per_frame - model.owes], model.patch, model.image_hw)

        clip = torch.cat([frames(before)[:, :1], frames(later)], dim=1)
        drawn = rearrange(noise, "b (f n) p -> b f (n p)", f=num)[..., : model.num_codes * model.code_size]
        made = self.model(clip, drawn.unflatten(-1, (model.num_codes, model.code_size)))
        # The loss is a mean over all tokens, and this is what it takes for the published sum (`MotionClip.weight`).
        root = ((self.spec.per_frame - 1) * made.owed.clamp(min=1e-12)).sqrt()
        return self._tokens(patches_of(made.next, model.patch), root)

    def read(self, hidden: Float[Tensor, "b n p"]) -> Float[Tensor, "b n p"]:
        return hidden

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return on_a_line(num_tokens)


@dataclass(frozen=True, kw_only=True)
class MotionCodes:
    """The latent actions of a clip as tokens with a table and a head of their own, as LAPA has them (arXiv 2410.11758,
    section 3.2): entries of the codebook, and a mark that starts them, the number behind the last entry."""

    clip: MotionClip

    @property
    def start(self) -> int:
        """The mark that is read first; nothing marks the end, there are always as many codes."""
        return self.clip.model.codebook

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised", "clean")

    def num_tokens(self, view: ViewKind) -> int:
        return self.clip.model.num_codes * len(self.clip.future_s)

    def window(self) -> Window:
        return self.clip.window()

    def num_parameters(self, width: int) -> int:
        return (self.start + 1) * width + width * self.start

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), width, self.start)

    def encode_flops(self, view: ViewKind) -> int:
        """Frames to codes, in training only: acting has no future frames."""
        return self.clip.model.encode_flops(self.clip.num_frames)

    def decode_flops(self) -> int:
        return 0


class MotionCodeCodec(nn.Module):
    """The module of :class:`MotionCodes`; a :class:`MotionClipCodec` finds its targets."""

    def __init__(self, spec: MotionCodes, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.table = nn.Embedding(spec.start + 1, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.scores = nn.Linear(width, spec.start, bias=False)
        self._labels: list[MotionClipCodec] = []  # a list: the module is registered once, under its own stream's name

    def labelled(self, clip: nn.Module) -> None:
        """Take the targets from the model of motion of another stream."""
        assert isinstance(clip, MotionClipCodec)
        self._labels[:] = [clip]

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("latent actions are never observed: a recipe with a 'now' view of them is refused")

    @torch.no_grad()
    def target(self, batch: Batch) -> Latent:
        """The codes of the clip; those of frames behind the end do not count."""
        (clip,) = self._labels
        _, codes = clip.model.latent(clip.frames(batch))
        valid = batch.future_valid.repeat_interleave(codes.shape[2], dim=1)
        return Latent(values=rearrange(codes, "b f n -> b (f n)"), valid=valid)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view),)

    def embed(self, latent: Int[Tensor, "b n"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self.table(latent)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n v"]:
        return self.scores(hidden)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return on_a_line(num_tokens)
