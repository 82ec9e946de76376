"""Words the way Cosmos-Predict2.5 reads them: all layers of a frozen Cosmos-Reason1, side by side, and one projection.

NVIDIA 2025 (diffusers ``Cosmos2_5_PredictBasePipeline``): each layer's states are brought to mean 0 and deviation 1 per
token, 28 layers of 3584 are joined to 100,352, and the video model's own projection (linear, GELU) makes 1024 of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.inputs import InputCodec, InputTokens, refuse_longer
from crossroads.codecs.published import reason_encoder, tokeniser
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.text_cache import KnownStates
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Observation

SYSTEM = "You are a helpful assistant who will provide prompts to an image generator."


@dataclass(frozen=True, kw_only=True)
class ReasonFeatures(InputTokens):
    """``num_layers`` layers of ``layer_width``; the prompt is padded to ``max_tokens``, all of which are read.

    The states of an instruction are computed once, for all its observations, and kept on disk (``text_cache``; 103 MB
    each at published size, in bfloat16).
    """

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
        self.known = KnownStates(
            source=spec.source,
            template=f"all layers; system: {SYSTEM}",
            max_tokens=spec.max_tokens,
            width=spec.joined_width,
        )

    @torch.no_grad()
    def observe(self, obs: Observation) -> Latent:
        found = {text: self.features(text, obs.state.device) for text in set(obs.text)}
        return all_valid(torch.stack([found[text] for text in obs.text]))

    @torch.no_grad()
    def features(self, text: str, device: torch.device | str = "cpu") -> Float[Tensor, "n v"]:
        """The states of one instruction, evened; where they are not known, the encoder runs on ``device``.

        Raises ``InputError`` for a text that is too long, and for a new one where the encoder cannot be loaded.
        """
        states = self.known.of(text, lambda text: self._computed(text, device)).to(device).float()
        layers = states.unflatten(-1, (self.spec.num_layers, self.spec.layer_width))
        evened = (layers - layers.mean(dim=-1, keepdim=True)) / (layers.std(dim=-1, keepdim=True) + 1e-8)
        return evened.flatten(-2)

    def _computed(self, text: str, device: torch.device | str) -> Float[Tensor, "n v"]:
        """The states as the encoder gives them, in its precision, in the model's chat prompt, layer beside layer."""
        spec, pieces = self.spec, self.known.part(tokeniser, "tokenizer", text)
        talk = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        prompt = pieces.apply_chat_template(talk, tokenize=False, add_generation_prompt=False)
        ids = pieces(prompt, padding="max_length", max_length=spec.max_tokens, return_tensors="pt").input_ids
        refuse_longer(ids.shape[1], spec.max_tokens, text)
        encoder = self.known.part(reason_encoder, "text_encoder", text).to(device)
        layers = encoder(ids.to(device), output_hidden_states=True).hidden_states[1:]  # the first is the embedding
        return torch.cat([hidden[0] for hidden in layers], dim=-1)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.max_tokens, self.spec.joined_width)

    def embed(self, latent: Float[Tensor, "b n v"], level: Tensor) -> Float[Tensor, "b n w"]:
        return functional.gelu(self.enter(latent))
