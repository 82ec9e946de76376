"""What a frozen vision-language model makes of the cameras and the instruction, as input tokens of a trained tower.

Motus (arXiv 2512.13030, ``UndModule.extract_und_features``): the last hidden states of Qwen3-VL-2B, over every token of
its chat prompt, pass a small network into the understanding expert. GR00T N1 (arXiv 2503.14734) reads the states of an
earlier layer, of pictures and of words apart. The model is no part of the policy's weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

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

    def flops(self, image_hw: tuple[int, int], num_words: int, *, num_pictures: int = 1, num_layers: int = 0) -> int:
        """Pictures and a prompt through so many layers (0: all); the head that would write words is not run."""
        num = num_pictures * self.num_pictured(image_hw) + num_words
        e, g = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = linear_flops(num, self.width, 2 * e + 2 * g + 3 * self.mlp) + 2 * linear_flops(num, e, num)
        return num_pictures * self.vision_flops(image_hw) + (num_layers or self.depth) * layer

    def vision_flops(self, image_hw: tuple[int, int]) -> int:
        """One picture into tokens of the language model."""
        seen, v = self.num_pictured(image_hw) * self.merged**2, self.vision_width
        vision = linear_flops(seen, 2 * 3 * self.patch**2, v)  # a still picture is two frames alike
        vision += self.vision_depth * (
            linear_flops(seen, v, 4 * v + 2 * self.vision_mlp) + 2 * linear_flops(seen, v, seen)
        )
        joined = v * self.merged**2
        return vision + (1 + self.deep) * linear_flops(seen // self.merged**2, joined, joined + self.width)


@dataclass(frozen=True, kw_only=True)
class EagleVision(QwenVision):
    """The Eagle 2.5 of GR00T N1.5: SigLIP at 224 px, one linear map, twelve layers of Qwen3-1.7B (its ``config.json``).

    transformers has no class of it.
    """

    source: str = "nvidia/GR00T-N1.5-3B"
    depth: int = 12
    patch: int = 14
    merged: int = 1
    vision_width: int = 1152
    vision_mlp: int = 4304
    vision_depth: int = 27
    deep: int = 0

    def vision_flops(self, image_hw: tuple[int, int]) -> int:
        seen, v = self.num_pictured(image_hw), self.vision_width
        layer = linear_flops(seen, v, 4 * v + 2 * self.vision_mlp) + 2 * linear_flops(seen, v, seen)
        return linear_flops(seen, 3 * self.patch**2, v) + self.vision_depth * layer + linear_flops(seen, v, self.width)


@dataclass(frozen=True, kw_only=True)
class AnyVision(EagleVision):
    """Any other vision-language model of transformers, by its sizes: ``pictured`` tokens of a picture, whatever its
    size; its own processor makes its inputs (``AutoModelForImageTextToText``). It is called as a whole: what others
    read are its states behind a layer."""

    pictured: int

    def num_pictured(self, image_hw: tuple[int, int]) -> int:
        return self.pictured

    def vision_flops(self, image_hw: tuple[int, int]) -> int:
        """A vision transformer over the picture's patches, and one map of what enters the language model."""
        seen, v = (image_hw[0] // self.patch) * (image_hw[1] // self.patch), self.vision_width
        layer = linear_flops(seen, v, 4 * v + 2 * self.vision_mlp) + 2 * linear_flops(seen, v, seen)
        ends = linear_flops(seen, 3 * self.patch**2, v) + linear_flops(self.pictured, v * self.merged**2, self.width)
        return ends + self.vision_depth * layer


@dataclass(frozen=True, kw_only=True)
class SceneFeatures(InputTokens):
    """Cameras on one canvas, ``columns`` in a row (0: all), or each a picture of its own (``apart``), and the
    instruction; at most ``max_words`` tokens of prompt around the pictures'.

    ``part``: the stream holds the states of all tokens, or of those of the pictures or of the words alone; ``layers``:
    states after so many layers, before the last norm (0: after all, and after it). ``hidden``: of the network into the
    tower; ``direct``: there is none, the tower is as wide as the model.
    """

    model: QwenVision
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    max_words: int
    columns: int = 0
    hidden: tuple[int, ...] = ()
    activation: Activation = "silu"
    apart: bool = False
    part: Literal["all", "image", "words"] = "all"
    layers: int = 0
    direct: bool = False

    @property
    def num_pictures(self) -> int:
        return len(self.cameras) if self.apart else 1

    @property
    def picture_hw(self) -> tuple[int, int]:
        """Of one picture that the model sees."""
        return self.image_hw if self.apart else self.canvas_hw

    @property
    def max_prompt(self) -> int:
        """Tokens of pictures and words together."""
        return self.num_pictures * self.model.num_pictured(self.picture_hw) + self.max_words

    @property
    def canvas_hw(self) -> tuple[int, int]:
        columns = self.columns or len(self.cameras)
        return self.image_hw[0] * -(-len(self.cameras) // columns), self.image_hw[1] * columns

    def num_tokens(self, view: ViewKind) -> int:
        return {"all": self.max_prompt, "image": self.max_prompt - self.max_words, "words": self.max_words}[self.part]

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "cameras": self.cameras, "image_hw": self.image_hw})

    def num_parameters(self, width: int) -> int:
        """Without the frozen model's."""
        return 0 if self.direct else end_parameters(self.model.width, width, self.hidden, 0)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0 if self.direct else end_flops(self.num_tokens(view), self.model.width, width, self.hidden)

    def encode_flops(self, view: ViewKind) -> int:
        """The words' states come out of the pictures' pass."""
        if self.part == "words":
            return 0
        sizes = {"num_pictures": self.num_pictures, "num_layers": self.layers}
        return self.model.flops(self.picture_hw, self.max_words, **sizes)


class SceneCodec(InputCodec):
    """The module of :class:`SceneFeatures`; tokens past a prompt's end are not valid."""

    def __init__(self, spec: SceneFeatures, width: int) -> None:
        super().__init__()
        self.spec = spec
        if spec.direct and width != spec.model.width:
            raise InputError(
                where="SceneFeatures, direct",
                expected=f"a tower as wide as the model ({spec.model.width})",
                got=str(width),
                do="Give the tower that width, or let a network lead into it.",
            )
        if not spec.direct:
            self.enter = make_end(spec.model.width, width, spec.hidden, (), activation=spec.activation)

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        device = obs.state.device
        states = [
            scene_states(self.spec, pictures, text, device)
            for pictures, text in zip(self.pictures(obs), obs.text, strict=True)
        ]
        num = self.spec.num_tokens("now")
        values = torch.stack([nn.functional.pad(part, (0, 0, 0, num - len(part))) for part in states])
        lengths = torch.tensor([len(part) for part in states], device=device)
        return Latent(values=values, valid=torch.arange(num, device=device) < lengths[:, None])

    def pictures(self, obs: Observation) -> Tensor:
        """What the model sees of each sample: ``b p h w 3``."""
        if self.spec.apart:
            return torch.stack([obs.images[camera] for camera in self.spec.cameras], dim=1)
        return self.canvas(obs).unsqueeze(1)

    def canvas(self, obs: Observation) -> Tensor:
        """Cameras in rows, ``b h w 3``; a place without a camera is grey."""
        shown = [obs.images[camera] for camera in self.spec.cameras]
        columns = self.spec.columns or len(shown)
        shown += [torch.full_like(shown[0], 127)] * (-len(shown) % columns)
        return rearrange(torch.stack(shown), "(r c) b h w x -> b (r h) (c w) x", c=columns)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.model.width)

    def embed(self, latent: Float[Tensor, "b n v"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent if self.spec.direct else self.enter(latent)


def scene_states(spec: SceneFeatures, pictures: Tensor, text: str, device: torch.device) -> Float[Tensor, "n v"]:
    """The hidden states of some pictures (``p h w 3``, 0..255) and an instruction in the model's chat prompt, of the
    tokens that the stream holds; the model runs, and stays, on ``device``. Two streams that hold a part each share its
    pass, for up to 64 samples."""
    whole = replace(spec, part="all", hidden=(), activation="silu", direct=True)
    raw = pictures.to("cpu", torch.uint8).contiguous()
    states, pictured = _states(whole, raw.numpy().tobytes(), tuple(raw.shape), text, device)
    if spec.part == "all":
        return states
    return states[pictured if spec.part == "image" else ~pictured]


@lru_cache(maxsize=64)
@torch.no_grad()
def _states(
    spec: SceneFeatures, raw: bytes, shape: tuple[int, ...], text: str, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The states of every token, and which of them are a picture's."""
    processor = image_text_processor(spec.model.source)
    model = image_text_model(spec.model.source, spec.layers).to(device)
    pictures = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(shape)
    shown = [rearrange(picture, "h w c -> c h w") for picture in pictures]
    parts = [*({"type": "image", "image": picture} for picture in shown), {"type": "text", "text": text}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    given = processor(text=[prompt], images=shown, return_tensors="pt")
    num, most = given["input_ids"].shape[1], spec.max_prompt
    if num > most:
        raise InputError(
            where="scene codec",
            expected=f"at most {most} tokens of picture and prompt",
            got=f"{num} with {text!r}",
            do="Shorten the text, or raise max_words of the recipe's image stream.",
        )
    pictured = given["input_ids"][0] == processor.image_token_id
    given = {name: part.to(device) for name, part in given.items()}
    states = model(**given, output_hidden_states=True).hidden_states[-1][0].float()
    return states, pictured.to(device)
