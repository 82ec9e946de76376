"""Actions as language: a chunk written out as lists of integers, in the words that the language model already has.

VLM2VLA (Hancock et al. 2025, arXiv 2509.22195): integer centimetres in plain text, no token of the vocabulary is given
a new meaning. The paper writes translations only; here every dimension is written. No code of the paper is public.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.text import Vocabulary

CHARACTERS = 6
"""Of a number with its sign and what stands around it; a vocabulary needs at most one token for each."""


@dataclass(frozen=True, kw_only=True)
class ActionText:
    """``per_unit`` integers to a unit of what is written: 100 to a metre are centimetres (normaliser ``none``)."""

    vocabulary: Vocabulary | PretrainedVocabulary
    per_unit: float = 100.0

    @property
    def size(self) -> int:
        """Every piece of the vocabulary is a token."""
        return self.vocabulary.size

    def longest(self, num_actions: int, action_size: int) -> int:
        return CHARACTERS * num_actions * (action_size + 1)

    def encode_flops(self, num_actions: int, action_size: int) -> int:
        return 0

    def decode_flops(self, num_actions: int, action_size: int) -> int:
        return 0


class TextTokeniser(nn.Module):
    """The module of :class:`ActionText`; nothing is fitted, nothing learned."""

    def __init__(self, spec: ActionText, num_actions: int, action_size: int) -> None:
        super().__init__()
        self.spec = spec

    def fit(self, chunks: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "c n a"]) -> None:
        """Nothing: numbers are written as they are."""

    def words(self, chunk: Float[Tensor, "b n a"]) -> list[str]:
        """The texts of some chunks: ``[[5, 0, -3], [4, 0, -3]]``."""
        return [str(one) for one in (chunk.double() * self.spec.per_unit).round().long().tolist()]

    def encode(self, chunk: Float[Tensor, "b n a"]) -> list[list[int]]:
        return [self.spec.vocabulary.bare(text) for text in self.words(chunk)]

    def decode(self, rows: list[list[int]], num_actions: int, action_size: int) -> Float[Tensor, "b n a"]:
        """The integers that stand in the texts; texts with another number of them mean zeros."""
        chunk = torch.zeros(len(rows), num_actions * action_size, dtype=torch.float64)
        for index, row in enumerate(rows):
            found = re.findall(r"-?\d{1,9}(?!\d)", self.spec.vocabulary.decode(row))
            if len(found) == chunk.shape[1]:
                chunk[index] = torch.tensor([float(number) for number in found])
        return chunk.reshape(-1, num_actions, action_size) / self.spec.per_unit
