"""Pictures the way Wan 2.1 I2V reads them across: states of a frozen CLIP encoder of the frame of now.

All cameras stand on one canvas, squeezed to CLIP's square; the states are those before the last layer (Wan 2.1,
arXiv 2503.20314; DreamZero's ``WanImageEncoder``, ``use_31_block``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from crossroads.codecs.latents import on_canvas
from crossroads.codecs.spec import Latent, NeverTrained
from crossroads.errors import InputError
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own (Radford et al. 2021, arXiv 2103.00020; ``openai/CLIP``)."""


@dataclass(frozen=True, kw_only=True)
class ImageFeatures:
    """``num_tokens_read`` states, ``width`` wide, of the cameras on a canvas with ``columns`` (0: all in one row)."""

    source: str
    width: int
    num_tokens_read: int
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    columns: int = 0
    square: int = 224

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.num_tokens_read

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})

    def num_parameters(self, width: int) -> int:
        """None of the policy's: the encoder is frozen."""
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        """Not counted: one encoder pass over 257 tokens, under a thousandth of one denoising step at this size."""
        return 0

    def decode_flops(self) -> int:
        return 0


class ImageFeatureCodec(NeverTrained):
    """The module of :class:`ImageFeatures`; it holds no weights of the policy."""

    def __init__(self, spec: ImageFeatures, width: int) -> None:
        super().__init__()
        if spec.width != width:
            raise InputError(
                where="ImageFeatures",
                expected=f"features as wide as their tower ({width})",
                got=str(spec.width),
                do="Give the tower the width of the features.",
            )
        self.spec = spec

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        canvas = on_canvas(obs.images, self.spec.cameras, self.spec.columns)
        pictures = rearrange(canvas, "b h w c -> b c h w")
        square = functional.interpolate(pictures, size=(self.spec.square,) * 2, mode="bicubic", align_corners=False)
        mean, std = (torch.tensor(part, device=square.device)[:, None, None] for part in (MEAN, STD))
        values = self.states(((square + 1) / 2 - mean) / std)
        return Latent(values=values, valid=torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def states(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n w"]:
        """The encoder's states before its last layer."""
        found = image_encoder(self.spec.source).to(pictures.device)(pictures, output_hidden_states=True)
        return found.hidden_states[-2].float()

    def target(self, batch: Batch) -> Latent:
        return self.observe(batch.obs)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens_read, self.spec.width)

    def embed(self, latent: Float[Tensor, "b n w"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError("features are inputs: validate() refuses a recipe that predicts them")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        places = torch.zeros(num_tokens, 3)
        places[:, 0] = torch.arange(num_tokens)
        return places


@cache
def image_encoder(source: str) -> Any:
    """The CLIP encoder of a published image-to-video model."""
    try:
        from transformers import CLIPVisionModel  # pyright: ignore[reportMissingImports]

        model = CLIPVisionModel.from_pretrained(source, subfolder="image_encoder")
    except (ImportError, OSError, ValueError) as error:
        raise InputError(
            where=f"image encoder of {source}",
            expected="the package transformers, and the files in 'image_encoder' (hub repository or local folder)",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            do="Install crossroads[backbones], log in to the hub, or give a local folder as source.",
        ) from error
    return model.eval().requires_grad_(False)
