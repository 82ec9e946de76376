"""An instruction as one token, repeated at each observed step (GR-1, arXiv 2312.13139; Seer, arXiv 2412.15109).

Published: what a frozen CLIP (or, in MCIL and HULC, a MiniLM) makes of a sentence. Without it: the mean of learned
embeddings of its words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.inputs import InputCodec, InputTokens, refuse_longer
from crossroads.codecs.published import encoder_of, sentence_encoder, tokeniser
from crossroads.codecs.spec import Latent
from crossroads.codecs.steps import Steps
from crossroads.codecs.text import PAD, Vocabulary
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Batch, Observation

EPSILON = 1e-6
"""Beside the length that a feature is divided by (GR-1)."""


@dataclass(frozen=True, kw_only=True)
class ClipSentences:
    """The frozen text encoder of a published CLIP, with its projection; ``width`` numbers."""

    source: str
    width: int


@dataclass(frozen=True, kw_only=True)
class PooledSentences:
    """The mean of what a frozen language model says of each token of a sentence, ``width`` numbers: how the MiniLM
    models of sentence-transformers (Reimers and Gurevych 2019, arXiv 1908.10084) are read."""

    source: str
    width: int


@dataclass(frozen=True, kw_only=True)
class WordMeans:
    """The mean of ``width`` learned numbers for each word, of at most ``max_words``."""

    vocabulary: Vocabulary
    width: int
    max_words: int = 48


@dataclass(frozen=True, kw_only=True)
class SentenceTokens(InputTokens):
    """One token at each of ``steps``; ``unit``: features are divided by their length first. CLIP's work is not counted:
    a sentence is encoded once for all its observations."""

    source: ClipSentences | PooledSentences | WordMeans
    steps: Steps
    unit: bool = False

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num

    def num_parameters(self, width: int) -> int:
        table = self.source.vocabulary.size * self.source.width if isinstance(self.source, WordMeans) else 0
        return table + linear_parameters(self.source.width, width)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.steps.num, self.source.width, width)


class SentenceCodec(InputCodec):
    """The module of :class:`SentenceTokens`; its latent holds features, or numbers of words."""

    def __init__(self, spec: SentenceTokens, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.table = None
        if isinstance(spec.source, WordMeans):
            self.table = nn.Embedding(spec.source.vocabulary.size, spec.source.width)
        self.enter = nn.Linear(spec.source.width, width)
        self._known: dict[str, Tensor] = {}

    def observe(self, obs: Observation) -> Latent:
        num = min(1 + len(obs.before), self.spec.steps.num)  # told once for all steps, where it has one of its own
        present = torch.ones(obs.batch_size, num, dtype=torch.bool, device=obs.state.device)
        return self._at(obs, present)

    def target(self, batch: Batch) -> Latent:
        """The same words at each step of the window."""
        return self._at(batch.obs, self.spec.steps.present(batch))

    def _at(self, obs: Observation, present: Tensor) -> Latent:
        told = torch.stack([self._sentence(text) for text in obs.text]).to(present.device)
        return self.spec.steps.filled(repeat(told, "b c -> b t c", t=present.shape[1]), present, 1)

    def _sentence(self, text: str) -> Tensor:
        """The features of a sentence, or its words, as long as the longest may be."""
        if text in self._known:
            return self._known[text]
        source = self.spec.source
        if isinstance(source, WordMeans):
            words = source.vocabulary.encode(text)
            refuse_longer(len(words), source.max_words, text)
            found = torch.tensor(words + [PAD] * (source.max_words - len(words)))
        else:
            found = encoded(source, text)
        self._known[text] = found
        return found

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        source = self.spec.source
        return (self.spec.steps.num, source.max_words if isinstance(source, WordMeans) else source.width)

    def embed(self, latent: Tensor, level: Tensor) -> Float[Tensor, "b n w"]:
        if self.table is not None:
            word = (latent != PAD).unsqueeze(-1)
            features = (self.table(latent) * word).sum(dim=2) / word.sum(dim=2).clamp(min=1)
        else:
            features = latent
        if self.spec.unit:
            features = features / (features.norm(dim=-1, keepdim=True) + EPSILON)
        return self.enter(features)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens)


@torch.no_grad()
def encoded(source: ClipSentences | PooledSentences, text: str) -> Float[Tensor, " c"]:
    """What a frozen model says of a sentence."""
    ids = tokeniser(source.source, "")(text, return_tensors="pt", truncation=True)
    if isinstance(source, PooledSentences):
        return encoder_of(source.source)(**ids).last_hidden_state[0].float().mean(dim=0)
    return sentence_encoder(source.source)(**ids).text_embeds[0].float()
