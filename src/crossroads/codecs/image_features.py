"""Pictures the way Wan 2.1 I2V reads them across: states of a frozen CLIP encoder of the frame of now.

All cameras stand on one canvas, squeezed to CLIP's square; the states are those before the last layer (Wan 2.1,
arXiv 2503.20314; DreamZero's ``WanImageEncoder``, ``use_31_block``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from crossroads.codecs.inputs import FeatureCodec, InputTokens
from crossroads.codecs.latents import on_canvas
from crossroads.codecs.published import image_encoder
from crossroads.codecs.spec import Latent, all_valid
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Observation, Window

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own (Radford et al. 2021, arXiv 2103.00020; ``openai/CLIP``)."""


@dataclass(frozen=True, kw_only=True)
class ImageFeatures(InputTokens):
    """``num_tokens_read`` states, ``width`` wide, of the cameras on a canvas with ``columns`` (0: all in one row).

    The encoder's work is not counted: one pass over 257 tokens, under a thousandth of a denoising step at this size.
    """

    source: str
    width: int
    num_tokens_read: int
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    columns: int = 0
    square: int = 224

    def num_tokens(self, view: ViewKind) -> int:
        return self.num_tokens_read

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})


class ImageFeatureCodec(FeatureCodec):
    """The module of :class:`ImageFeatures`; it holds no weights of the policy."""

    spec: ImageFeatures

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        canvas = on_canvas(obs.images, self.spec.cameras, self.spec.columns)
        pictures = rearrange(canvas, "b h w c -> b c h w")
        square = functional.interpolate(pictures, size=(self.spec.square,) * 2, mode="bicubic", align_corners=False)
        mean, std = (torch.tensor(part, device=square.device)[:, None, None] for part in (MEAN, STD))
        values = self.states(((square + 1) / 2 - mean) / std)
        return all_valid(values)

    def states(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n w"]:
        """The encoder's states before its last layer."""
        encoder = image_encoder(self.spec.source, "image_encoder").to(pictures.device)
        found = encoder(pictures, output_hidden_states=True)
        return found.hidden_states[-2].float()
