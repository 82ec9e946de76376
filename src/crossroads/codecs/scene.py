"""What a frozen vision-language model makes of the cameras and the instruction, as input tokens of a trained tower.

Motus (arXiv 2512.13030, ``UndModule.extract_und_features``): the last hidden states of Qwen3-VL-2B, over every token of
its chat prompt, pass a small network into the understanding expert. The model is no part of the policy's weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.banks import Activation, end_flops, end_parameters, make_end
from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.published import image_text_model, image_text_processor
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops
from crossroads.types import NOTHING, Observation, Window


@dataclass(frozen=True, kw_only=True)
class QwenVision:
    """A Qwen3-VL model and its sizes (Qwen/Qwen3-VL-2B-Instruct ``config.json``), from which its work is counted."""

    source: str = "Qwen/Qwen3-VL-2B-Instruct"
    width: int = 2048
    mlp: int = 6144
    depth: int = 28
    heads: int = 16
    kv_heads: int = 8
    head_dim: int = 128
    patch: int = 16
    merged: int = 2
    vision_width: int = 1024
    vision_mlp: int = 4096
    vision_depth: int = 24
    deep: int = 3
    """Layers of the vision tower whose states enter early layers of the language model (DeepStack)."""

    def num_pictured(self, image_hw: tuple[int, int]) -> int:
        """Tokens of a picture in the language model."""
        side = self.patch * self.merged
        return (image_hw[0] // side) * (image_hw[1] // side)

    def flops(self, image_hw: tuple[int, int], num_words: int) -> int:
        """One picture and a prompt through all layers; the head that would write words is not run."""
        seen, v = self.num_pictured(image_hw) * self.merged**2, self.vision_width
        vision = linear_flops(seen, 2 * 3 * self.patch**2, v)  # a still picture is two frames alike
        vision += self.vision_depth * (
            linear_flops(seen, v, 4 * v + 2 * self.vision_mlp) + 2 * linear_flops(seen, v, seen)
        )
        joined = v * self.merged**2
        vision += (1 + self.deep) * linear_flops(seen // self.merged**2, joined, joined + self.width)
        num, e, g = self.num_pictured(image_hw) + num_words, self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = linear_flops(num, self.width, 2 * e + 2 * g + 3 * self.mlp) + 2 * linear_flops(num, e, num)
        return vision + self.depth * layer


@dataclass(frozen=True, kw_only=True)
class SceneFeatures(InputTokens):
    """Cameras on one canvas, ``columns`` in a row (0: all), and the instruction; at most ``max_words`` tokens of
    prompt around the picture's. ``hidden``: of the network into the tower."""

    model: QwenVision
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    max_words: int
    columns: int = 0
    hidden: tuple[int, ...] = ()
    activation: Activation = "silu"

    @property
    def canvas_hw(self) -> tuple[int, int]:
        columns = self.columns or len(self.cameras)
        return self.image_hw[0] * -(-len(self.cameras) // columns), self.image_hw[1] * columns

    def num_tokens(self, view: ViewKind) -> int:
        return self.model.num_pictured(self.canvas_hw) + self.max_words

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})

    def num_parameters(self, width: int) -> int:
        """Without the frozen model's."""
        return end_parameters(self.model.width, width, self.hidden, 0)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return end_flops(self.num_tokens(view), self.model.width, width, self.hidden)

    def encode_flops(self, view: ViewKind) -> int:
        return self.model.flops(self.canvas_hw, self.max_words)


class SceneCodec(InputCodec):
    """The module of :class:`SceneFeatures`; tokens past a prompt's end are not valid."""

    def __init__(self, spec: SceneFeatures, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.enter = make_end(spec.model.width, width, spec.hidden, (), activation=spec.activation)

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        device = obs.state.device
        states = [
            scene_states(self.spec, picture, text, device)
            for picture, text in zip(self.canvas(obs), obs.text, strict=True)
        ]
        num = self.spec.num_tokens("now")
        values = torch.stack([nn.functional.pad(part, (0, 0, 0, num - len(part))) for part in states])
        lengths = torch.tensor([len(part) for part in states], device=device)
        return Latent(values=values, valid=torch.arange(num, device=device) < lengths[:, None])

    def canvas(self, obs: Observation) -> Tensor:
        """Cameras in rows, ``b h w 3``; a place without a camera is grey."""
        shown = [obs.images[camera] for camera in self.spec.cameras]
        columns = self.spec.columns or len(shown)
        shown += [torch.full_like(shown[0], 127)] * (-len(shown) % columns)
        return rearrange(torch.stack(shown), "(r c) b h w x -> b (r h) (c w) x", c=columns)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.model.width)

    def embed(self, latent: Float[Tensor, "b n v"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self.enter(latent)


@torch.no_grad()
def scene_states(spec: SceneFeatures, picture: Tensor, text: str, device: torch.device) -> Float[Tensor, "n v"]:
    """The last hidden states of one picture (``h w 3``, 0..255) and instruction in the model's chat prompt; the model
    runs, and stays, on ``device``."""
    processor, model = image_text_processor(spec.model.source), image_text_model(spec.model.source).to(device)
    parts = [{"type": "image", "image": rearrange(picture.cpu(), "h w c -> c h w")}, {"type": "text", "text": text}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    given = processor(text=[prompt], images=[parts[0]["image"]], return_tensors="pt")
    num, most = given["input_ids"].shape[1], spec.num_tokens("now")
    if num > most:
        raise InputError(
            where="scene codec",
            expected=f"at most {most} tokens of picture and prompt",
            got=f"{num} with {text!r}",
            do="Shorten the text, or raise max_words of the recipe's image stream.",
        )
    given = {name: part.to(device) for name, part in given.items()}
    return model(**given, output_hidden_states=True).hidden_states[-1][0].float()
