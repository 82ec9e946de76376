"""Words as the states of a frozen CLIP text encoder, one for each token of the padded sentence (VPP, AVDC).

Radford et al. 2021, arXiv 2103.00020. Padding is read like words, as published systems do: a sentence has always
``max_tokens`` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.inputs import FeatureCodec, InputTokens
from crossroads.codecs.published import clip_text_encoder, tokeniser
from crossroads.codecs.spec import Latent, all_valid
from crossroads.streams import ViewKind
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class ClipStates(InputTokens):
    """``max_tokens`` final states of ``width`` numbers; longer sentences are cut, as CLIP's tokeniser does.

    ``encoder`` and ``tokeniser``: the folders of ``source`` that hold them ("" for the top one). ``template``: the
    sentence stands in it at ``{task}``. The encoder is none of the policy's weights, and its work is not counted: a
    sentence is encoded once for all its observations.
    """

    source: str
    width: int
    max_tokens: int
    encoder: str = ""
    tokeniser: str = ""
    template: str = "{task}"

    def num_tokens(self, view: ViewKind) -> int:
        return self.max_tokens


class ClipStateCodec(FeatureCodec):
    """The module of :class:`ClipStates`."""

    spec: ClipStates

    def __init__(self, spec: ClipStates, width: int) -> None:
        super().__init__(spec, width)
        self._known: dict[str, Tensor] = {}

    def observe(self, obs: Observation) -> Latent:
        found = [self._states(text, obs.state.device) for text in obs.text]
        return all_valid(torch.stack(found))

    @torch.no_grad()
    def _states(self, text: str, device: torch.device) -> Float[Tensor, "n w"]:
        if text not in self._known:
            spec = self.spec
            words = tokeniser(spec.source, spec.tokeniser)(
                spec.template.format(task=text),
                padding="max_length",
                truncation=True,
                max_length=spec.max_tokens,
                return_tensors="pt",
            )
            encoder = clip_text_encoder(spec.source, spec.encoder)
            self._known[text] = encoder(input_ids=words.input_ids).last_hidden_state[0].float()
        return self._known[text].to(device)
