"""UVA's transformer: one sequence of slots, in each of which frames to come, frames seen and actions are fused.

Li et al. 2025, arXiv 2503.00200 (ShuangLI59/unified_video_action, MIT), after MAR (Li et al. 2024, arXiv 2406.11838):
a slot for each place of each frame, made of the channels of everything that belongs there, side by side; what is not
given is a learned vector instead, and in frames to come some places are blank. Nothing is dropped from the sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossroads.errors import InputError
from crossroads.towers.action_transformer import PreNormLayer
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.spec import context_of

EPS = 1e-6
"""Of the norm behind the fusion, whatever the others have (``MAR.z_proj_ln``)."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A part of each slot: ``size`` numbers where it is given (0: never), the vector named ``blank`` where it is not
    (empty: it always is). ``ahead``: a picture to come, of which some places may be blank."""

    name: str
    size: int = 0
    blank: str = ""
    ahead: bool = False


@dataclass(frozen=True, kw_only=True)
class FusedSlots(ForwardTower):
    """Sizes. The stream is the part ``seen``, ``width`` numbers for each place of ``frames`` frames of ``places``;
    every other part is blank where it is called by a stage. ``context_width``: of a sentence, which stands ``words``
    times before the slots; 0: none. What is read of it is its tap."""

    width: int  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    parts: tuple[Fused, ...]
    frames: int
    places: int
    encoder_width: int
    encoder_depth: int
    encoder_heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    context_width: int = 0
    words: int = 64
    eps: float = EPS

    @property
    def num_slots(self) -> int:
        return self.frames * self.places

    @property
    def num_taps(self) -> int:
        return 1

    def tap_width(self, tap: int) -> int:
        return self.decoder_width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> FusedSlotsFrame:
        return FusedSlotsFrame(self)


class Spread(nn.Module):
    """A vector for each slot: one of its frame and one of its place."""

    def __init__(self, frames: int, places: int, width: int) -> None:
        super().__init__()
        self.time, self.place = (nn.Parameter(0.02 * torch.randn(num, width)) for num in (frames, places))

    def forward(self) -> Float[Tensor, "n w"]:
        return rearrange(self.time[:, None] + self.place[None], "t s w -> (t s) w")


class FusedSlotsFrame(ForwardFrame):
    """The module of :class:`FusedSlots`."""

    def __init__(self, spec: FusedSlots) -> None:
        super().__init__()
        self.spec = spec
        w, v = spec.encoder_width, spec.decoder_width
        self.enters = nn.ModuleDict({part.name: nn.Linear(part.size, w) for part in spec.parts if part.size})
        names = sorted({part.blank for part in spec.parts if part.blank})
        self.blanks = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(w)) for name in names})
        self.fuse, self.norm_fused = nn.Linear(len(spec.parts) * w, w), nn.LayerNorm(w, eps=EPS)
        if spec.context_width:
            self.told = nn.Linear(spec.context_width, w)
            self.word_places, self.word_places_out = (
                nn.Parameter(0.02 * torch.randn(spec.words, width)) for width in (w, v)
            )
        self.slots, self.slots_out, self.slots_read = (Spread(spec.frames, spec.places, n) for n in (w, v, v))
        self.encoder = nn.ModuleList(
            PreNormLayer(w, spec.encoder_heads, eps=spec.eps) for _ in range(spec.encoder_depth)
        )
        self.norm_encoder, self.between = nn.LayerNorm(w, eps=spec.eps), nn.Linear(w, v)
        self.decoder = nn.ModuleList(
            PreNormLayer(v, spec.decoder_heads, eps=spec.eps) for _ in range(spec.decoder_depth)
        )
        self.norm = nn.LayerNorm(v, eps=spec.eps)

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n v"]:
        words = context_of(condition.contexts, self.spec.context_width) if self.spec.context_width else None
        if self.spec.context_width and (words is None or words.hidden.shape[1] != 1):
            raise InputError(
                where="FusedSlots tower",
                expected=f"one token of {self.spec.context_width} numbers, read by a cross edge",
                got="none" if words is None else f"{words.hidden.shape[1]} tokens",
                do="Read a sentence across.",
            )
        condition.taps[0] = self.states({"seen": x}, None if words is None else words.hidden[:, 0])
        return condition.taps[0]

    def states(
        self,
        given: Mapping[str, Tensor],
        words: Float[Tensor, "b c"] | None = None,
        blank: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n v"]:
        """What heads read: one state for each slot. ``given``: the parts that are (``b m c``), each token of one for as
        many slots as there are to it; ``blank``: the slots whose frames to come are not shown."""
        batch = len(next(iter(given.values())))
        x = self.fuse(torch.cat([self._part(part, given, blank, batch) for part in self.spec.parts], dim=-1))
        x = x + self.slots()
        if words is not None:
            told = repeat(self.told(words), "b w -> b n w", n=self.spec.words) + self.word_places
            x = torch.cat([told, x], dim=1)
        x = self.norm_fused(x)
        for layer in self.encoder:
            x = layer(x)
        x = self.between(self.norm_encoder(x))
        stands = self.slots_out()
        x = x + (stands if words is None else torch.cat([self.word_places_out, stands]))
        for layer in self.decoder:
            x = layer(x)
        return self.norm(x)[:, x.shape[1] - self.spec.num_slots :] + self.slots_read()

    def _part(
        self, part: Fused, given: Mapping[str, Tensor], blank: Tensor | None, batch: int
    ) -> Float[Tensor, "b n w"]:
        """One part of every slot."""
        num = self.spec.num_slots
        unshown = repeat(self.blanks[part.blank], "w -> b n w", b=batch, n=num) if part.blank else None
        if part.name not in given:
            assert unshown is not None, f"part {part.name} is always given"
            return unshown
        shown = self.enters[part.name](given[part.name])
        shown = shown.repeat_interleave(num // shown.shape[1], dim=1)
        if blank is None or unshown is None or not part.ahead:
            return shown
        return torch.where(blank.unsqueeze(-1), unshown, shown)
