"""Pictures as states of a frozen published encoder, for policies that clone on top of what was learned elsewhere.

Masked autoencoders and other encoders of the library transformers (MVP, arXiv 2210.03109; R3M's kind of ResNet, arXiv
2203.12601, as one of its ResNets), and Voltron (arXiv 2302.12766), which reads the instruction as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from crossroads.codecs.inputs import FeatureCodec, InputTokens
from crossroads.codecs.published import encoder_of, tokeniser, voltron_weights
from crossroads.codecs.resnet import MEAN, STD
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.voltron import FRAMES, Voltron, VoltronNet
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Observation, Window


@dataclass(frozen=True, kw_only=True)
class PictureEncoder:
    """An encoder of transformers: ``num`` states of ``width`` numbers for a picture ``square`` pixels wide and high.
    Maps are read place by place; a masked autoencoder's patches come in an order of their own at each call, so its
    class token alone is read (``num`` 1)."""

    source: str
    width: int
    num: int = 1
    square: int = 224


@dataclass(frozen=True, kw_only=True)
class VoltronEncoder:
    """Voltron's states of the later frame's patches and of the words; there is one frame, which is shown as both.
    ``words``: the frozen language model beside it."""

    source: str
    sizes: Voltron = field(default_factory=Voltron)
    words: str = "distilbert-base-uncased"

    @property
    def width(self) -> int:
        return self.sizes.width

    @property
    def num(self) -> int:
        return self.sizes.num_patches + self.sizes.max_words

    @property
    def square(self) -> int:
        return self.sizes.resolution


@dataclass(frozen=True, kw_only=True)
class Representation(InputTokens):
    """Each camera's states, one camera after the other. The encoder's work is not counted: it may be done once."""

    encoder: PictureEncoder | VoltronEncoder
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]

    @property
    def width(self) -> int:
        return self.encoder.width

    def num_tokens(self, view: ViewKind) -> int:
        return len(self.cameras) * self.encoder.num

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})


class RepresentationCodec(FeatureCodec):
    """The module of :class:`Representation`; it holds no weights of the policy."""

    spec: Representation

    def __init__(self, spec: Representation, width: int) -> None:
        super().__init__(spec, width)
        self._voltron: list[VoltronNet] = []

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        encoder = self.spec.encoder
        shown = torch.stack([obs.images[camera] for camera in self.spec.cameras], dim=1)
        pixels = rearrange(shown, "b v h w c -> (b v) c h w").float() / 255
        size = (encoder.square,) * 2
        square = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (torch.tensor(part, device=square.device)[:, None, None] for part in (MEAN, STD))
        pictures = (square - mean) / std
        if isinstance(encoder, PictureEncoder):
            states = self._states(encoder, pictures)
        else:
            states = self._with_words(encoder, pictures, obs.text)
        return all_valid(rearrange(states, "(b v) n w -> b (v n) w", v=len(self.spec.cameras)))

    def _states(self, encoder: PictureEncoder, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        model = encoder_of(encoder.source).to(pictures.device)
        found = model(pictures).last_hidden_state
        return (found if found.ndim == 3 else rearrange(found, "b c h w -> b (h w) c"))[:, : encoder.num].float()

    def _with_words(
        self, encoder: VoltronEncoder, pictures: Float[Tensor, "b 3 h w"], text: tuple[str, ...]
    ) -> Float[Tensor, "b n d"]:
        if not self._voltron:
            net = VoltronNet(encoder.sizes).eval().requires_grad_(False)
            net.load_state_dict(voltron_weights(encoder.source))
            self._voltron.append(net)
        words, spoken = self._words(encoder, text)
        views = len(pictures) // len(text)
        both = repeat(pictures, "b c h w -> b f c h w", f=FRAMES)
        words, spoken = (part.repeat_interleave(views, dim=0).to(pictures.device) for part in (words, spoken))
        return self._voltron[0].to(pictures.device).representation(both, words, spoken)

    def _words(
        self, encoder: VoltronEncoder, text: tuple[str, ...]
    ) -> tuple[Float[Tensor, "b l c"], Bool[Tensor, "b l"]]:
        """States of the language model, for as many tokens as there are at most."""
        most = encoder.sizes.max_words
        ids = tokeniser(encoder.words, "")(
            list(text), return_tensors="pt", max_length=most, padding="max_length", truncation=True
        )
        model = encoder_of(encoder.words)
        found = model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).last_hidden_state
        return found.float(), ids["attention_mask"].bool()
