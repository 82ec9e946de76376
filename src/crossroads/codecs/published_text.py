"""Words the way published backbones read them: a pretrained tokeniser, or the states of a frozen language encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.inputs import FeatureCodec, InputTokens, refuse_longer
from crossroads.codecs.published import text_encoder, tokeniser
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.text_cache import KnownStates
from crossroads.streams import ViewKind
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class PretrainedVocabulary:
    """The pieces of a published tokeniser, with the same face as the word vocabulary.

    ``start`` None: texts begin without a mark. A text is put into ``template`` at ``{task}``. ``suffix`` is tokenised
    on its own and appended (pi0's newline, its "start of answer" mark; openpi ``PaligemmaTokenizer.tokenize``).
    """

    source: str
    size: int
    start: int | None
    end: int
    subfolder: str = ""
    suffix: str = ""
    template: str = "{task}"

    def encode(self, text: str) -> list[int]:
        """Start mark, the cleaned text (no underscores, one line), the suffix."""
        cleaned = text.strip().replace("_", " ").replace("\n", " ")
        start = [] if self.start is None else [self.start]
        return [*start, *self.bare(self.template.format(task=cleaned)), *self.bare(self.suffix)]

    def bare(self, text: str) -> list[int]:
        """The ids of a text as it is."""
        return tokeniser(self.source, self.subfolder).encode(text, add_special_tokens=False) if text else []

    def decode(self, ids: list[int]) -> str:
        """The text up to the end mark."""
        written = ids[: ids.index(self.end)] if self.end in ids else ids
        return tokeniser(self.source, self.subfolder).decode(written, skip_special_tokens=True)


@dataclass(frozen=True, kw_only=True)
class TextFeatures(InputTokens):
    """Final states of a frozen UMT5 encoder for an instruction put into ``template`` at ``{task}``.

    States past the text are zero and are read all the same, as Fast-WAM does (an all-ones context mask,
    ``robot_video_dataset.py``). The states of an instruction are computed once, for all its observations, and kept on
    disk (``text_cache``); the encoder is none of the policy's weights, and may be absent from then on.
    """

    source: str
    width: int
    max_tokens: int
    template: str = "{task}"

    def num_tokens(self, view: ViewKind) -> int:
        return self.max_tokens


class TextFeatureCodec(FeatureCodec):
    """The module of :class:`TextFeatures`; it holds no weights of the policy."""

    spec: TextFeatures

    def __init__(self, spec: TextFeatures, width: int) -> None:
        super().__init__(spec, width)
        self.known = KnownStates(
            source=spec.source, template=spec.template, max_tokens=spec.max_tokens, width=spec.width
        )

    def observe(self, obs: Observation) -> Latent:
        found = {text: self.features(text, obs.state.device) for text in set(obs.text)}
        return all_valid(torch.stack([found[text] for text in obs.text]))

    @torch.no_grad()
    def features(self, text: str, device: torch.device | str = "cpu") -> Float[Tensor, "n w"]:
        """The states of one instruction, zero past its end; where they are not known, the encoder runs on ``device``.

        Raises ``InputError`` for a text that is too long, and for a new one where the encoder cannot be loaded.
        """
        states = self.known.of(text, lambda text: self._computed(text, device)).to(device).float()
        return torch.nn.functional.pad(states, (0, 0, 0, self.spec.max_tokens - len(states)))

    def _computed(self, text: str, device: torch.device | str) -> Float[Tensor, "n w"]:
        prompt = self.spec.template.format(task=text)
        ids = self.known.part(tokeniser, "tokenizer", text)(prompt, return_tensors="pt").input_ids
        refuse_longer(ids.shape[1], self.spec.max_tokens, prompt)
        encoder = self.known.part(text_encoder, "text_encoder", text).to(device)
        return encoder(ids.to(device)).last_hidden_state[0]
