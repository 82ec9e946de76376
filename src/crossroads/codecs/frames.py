"""Numbers as latent frames: state, action chunk and value written into the clip of a video model.

Cosmos Policy (arXiv 2601.16163): each takes one latent frame of the clip and goes through the video's own patch maps,
so the model needs no new weights (``codecs.action_image`` has the arithmetic). A stream of these codecs ``shares`` the
video stream; what is its own is the way from raw numbers to a frame and back, and its place in the clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossroads.codecs.action_image import frame_from_vector, vector_from_frame
from crossroads.codecs.latents import LatentEnds
from crossroads.codecs.spec import Latent
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class LatentFrame:
    """A latent frame ``(channels, rows, columns)``, cut into squares of ``patch``, at index ``slot`` of the clip.

    ``num_more``: channels that enter beside the latent's own (the video codec's marks).
    """

    channels: int
    rows: int
    columns: int
    slot: int
    patch: int = 1
    num_more: int = 0

    @property
    def size(self) -> tuple[int, int, int]:
        return self.channels, self.rows, self.columns

    @property
    def num_tokens(self) -> int:
        return self.rows * self.columns // self.patch**2

    @property
    def patch_size(self) -> int:
        return self.channels * self.patch**2

    def embed_flops(self, width: int) -> int:
        return linear_flops(self.num_tokens, self.patch_size + self.num_more * self.patch**2, width)

    def read_flops(self, width: int) -> int:
        return linear_flops(self.num_tokens, width, self.patch_size)


@dataclass(frozen=True, kw_only=True)
class _Framed:
    """What the three have in common: a frame of the clip, and no weights of their own."""

    frame: LatentFrame

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised", "clean")

    def num_tokens(self, view: ViewKind) -> int:
        return self.frame.num_tokens

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return self.frame.embed_flops(width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0 if view == "now" else self.frame.read_flops(width)

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class StateFrame(_Framed):
    """The state of now, or (``after_s`` above 0) that of so many seconds later, which is predicted."""

    num_state: int
    after_s: float = 0.0
    normaliser: NormaliserKind = "min_max"

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised", "clean") if self.after_s else ("now",)

    def window(self) -> Window:
        return Window(
            **{**vars(NOTHING), "num_state": self.num_state, "later_state_s": (self.after_s,) if self.after_s else ()}
        )


@dataclass(frozen=True, kw_only=True)
class ActionFrame(_Framed):
    """A chunk of actions."""

    num_actions: int
    action_size: int
    control_hz: float
    normaliser: NormaliserKind = "min_max"

    def window(self) -> Window:
        asked = {"num_actions": self.num_actions, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})


@dataclass(frozen=True, kw_only=True)
class ValueFrame(_Framed):
    """The discounted return of the state ``after_s`` later, from 0..1 to -1..1; ``discount`` per control step."""

    after_s: float
    discount: float = 0.99

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "value_after_s": self.after_s, "discount": self.discount})


class FrameCodec(nn.Module):
    """Vectors as the tokens of one latent frame; the maps into and out of the tower are the video codec's."""

    def __init__(self, spec: StateFrame | ActionFrame | ValueFrame, width: int) -> None:
        super().__init__()
        self.spec = spec
        self._ends: list[LatentEnds] = []  # a list: the module is registered once, under the video stream's name

    def through(self, ends: nn.Module) -> None:
        """Use the patch maps of a video codec."""
        assert isinstance(ends, LatentEnds)
        self._ends[:] = [ends]

    def tokens(self, vector: Float[Tensor, "b ..."], valid: Bool[Tensor, " b"]) -> Latent:
        """Copies of a vector as the tokens of a frame."""
        p = self.spec.frame.patch
        frame = frame_from_vector(vector, self.spec.frame.size)
        values = rearrange(frame, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p)
        return Latent(values=values, valid=valid[:, None].expand(-1, values.shape[1]))

    def vector(self, latent: Float[Tensor, "b n c"], shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
        """The mean of the copies."""
        frame, p = self.spec.frame, self.spec.frame.patch
        sizes = {"h": frame.rows // p, "w": frame.columns // p, "p": p, "q": p}
        return vector_from_frame(rearrange(latent, "b (h w) (p q c) -> b c (h p) (w q)", **sizes), shape)

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("a recipe with a 'now' view of what is predicted is refused")

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.frame.num_tokens, self.spec.frame.patch_size)

    def embed(self, latent: Float[Tensor, "b n c"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self._ends[0].embed(latent, level)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n c"]:
        return self._ends[0].read(hidden)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        frame = self.spec.frame
        rows, columns = (torch.arange(size // frame.patch) for size in (frame.rows, frame.columns))
        return torch.cartesian_prod(torch.tensor([frame.slot]), rows, columns).float()


class StateFrameCodec(FrameCodec):
    """The module of :class:`StateFrame`."""

    spec: StateFrame

    def __init__(self, spec: StateFrame, width: int) -> None:
        super().__init__(spec, width)
        self.normaliser = Normaliser(spec.num_state)

    def observe(self, obs: Observation) -> Latent:
        everywhere = torch.ones(obs.batch_size, dtype=torch.bool, device=obs.state.device)
        return self.tokens(self.normaliser.normalise(obs.state), everywhere)

    def target(self, batch: Batch) -> Latent:
        return self.tokens(self.normaliser.normalise(batch.later_state[:, 0]), batch.later_state_valid[:, 0])

    def decode(self, latent: Float[Tensor, "b n c"]) -> Float[Tensor, "b s"]:
        return self.normaliser.restore(self.vector(latent, (self.spec.num_state,)))


class ActionFrameCodec(FrameCodec):
    """The module of :class:`ActionFrame`. A chunk cut off by the end of its episode counts with its last action held;
    one without any action does not count."""

    spec: ActionFrame

    def __init__(self, spec: ActionFrame, width: int) -> None:
        super().__init__(spec, width)
        self.normaliser = Normaliser(spec.action_size)

    def target(self, batch: Batch) -> Latent:
        return self.tokens(self.normaliser.normalise(batch.held_actions), batch.actions_valid.any(dim=1))

    def decode(self, latent: Float[Tensor, "b n c"]) -> Float[Tensor, "b steps a"]:
        return self.normaliser.restore(self.vector(latent, (self.spec.num_actions, self.spec.action_size)))


class ValueFrameCodec(FrameCodec):
    """The module of :class:`ValueFrame`: a frame of one number, read as the mean of all entries."""

    spec: ValueFrame

    def target(self, batch: Batch) -> Latent:
        everywhere = torch.ones(batch.batch_size, dtype=torch.bool, device=batch.value.device)
        return self.tokens(2 * batch.value[:, None] - 1, everywhere)

    def decode(self, latent: Float[Tensor, "b n c"]) -> Float[Tensor, " b"]:
        return ((self.vector(latent, (1,))[:, 0] + 1) / 2).clamp(0, 1)
