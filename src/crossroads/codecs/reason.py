"""Words the way Cosmos-Predict2.5 reads them: all layers of a frozen Cosmos-Reason1, side by side, and one projection.

NVIDIA 2025 (diffusers ``Cosmos2_5_PredictBasePipeline``): each layer's states are brought to mean 0 and deviation 1 per
token, 28 layers of 3584 are joined to 100,352, and the video model's own projection (linear, GELU) makes 1024 of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.spec import Latent, all_valid
from crossroads.errors import InputError
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Observation

SYSTEM = "You are a helpful assistant who will provide prompts to an image generator."


@dataclass(frozen=True, kw_only=True)
class ReasonFeatures(InputTokens):
    """``num_layers`` layers of ``layer_width``; the prompt is padded to ``max_tokens``, all of which are read. The
    states of an instruction are computed once and kept."""

    source: str
    num_layers: int = 28
    layer_width: int = 3584
    max_tokens: int = 512

    @property
    def joined_width(self) -> int:
        return self.num_layers * self.layer_width

    def num_tokens(self, view: ViewKind) -> int:
        return self.max_tokens

    def num_parameters(self, width: int) -> int:
        """The projection; the frozen encoder's are none of the policy's."""
        return linear_parameters(self.joined_width, width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.max_tokens, self.joined_width, width)


class ReasonCodec(InputCodec):
    """The module of :class:`ReasonFeatures`."""

    def __init__(self, spec: ReasonFeatures, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.enter = nn.Linear(spec.joined_width, width)
        self.known: dict[str, Float[Tensor, "n v"]] = {}

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        for text in set(obs.text) - set(self.known):
            self.known[text] = reason_states(self.spec, text)
        rows = torch.stack([self.known[text] for text in obs.text]).to(obs.state.device)
        return all_valid(rows)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.max_tokens, self.spec.joined_width)

    def embed(self, latent: Float[Tensor, "b n v"], level: Tensor) -> Float[Tensor, "b n w"]:
        return functional.gelu(self.enter(latent))


@torch.no_grad()
def reason_states(spec: ReasonFeatures, text: str) -> Float[Tensor, "n v"]:
    """The states of one instruction in the model's chat prompt, layer beside layer."""
    pieces, model = reason_model(spec.source)
    talk = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    prompt = pieces.apply_chat_template(talk, tokenize=False, add_generation_prompt=False)
    ids = pieces(prompt, padding="max_length", max_length=spec.max_tokens, return_tensors="pt").input_ids
    if ids.shape[1] > spec.max_tokens:
        raise InputError(
            where="text codec",
            expected=f"at most {spec.max_tokens} tokens with the prompt around them",
            got=f"{ids.shape[1]} in {text!r}",
            do="Shorten the text, or raise max_tokens of the recipe's text stream.",
        )
    layers = [hidden[0].float() for hidden in model(ids, output_hidden_states=True).hidden_states[1:]]
    evened = [(x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True) + 1e-8) for x in layers]
    return torch.cat(evened, dim=-1)


@cache
def reason_model(source: str) -> tuple[Any, Any]:
    """The tokeniser and the frozen language encoder of a Cosmos-Predict2.5 release, in bfloat16."""
    try:
        from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration  # pyright: ignore
    except ImportError as error:
        raise InputError(
            where=f"the language encoder of {source}",
            expected="the package transformers",
            got=str(error),
            do="Install it: pip install 'crossroads[backbones]'.",
        ) from error
    try:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            source, subfolder="text_encoder", torch_dtype=torch.bfloat16
        )
        return AutoTokenizer.from_pretrained(source, subfolder="tokenizer"), model.eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        raise InputError(
            where=f"the language encoder of {source}",
            expected="its files in 'text_encoder' and 'tokenizer' (hub repository or local folder)",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            do="Check the name, or fetch the repository first.",
        ) from error
