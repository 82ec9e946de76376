"""Every number of every action as one of 256 bins: the oldest way to write actions in a language model's vocabulary.

RT-2 (arXiv 2307.15818); OpenVLA (Kim et al. 2024, arXiv 2406.09246, ``ActionTokenizer``, MIT): edges evenly spaced from
-1 to 1, bins decoded as their centres, the numbers of one action next to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ActionBins:
    """``size`` edges from -1 to 1, with a token each; between them lie ``size - 1`` bins, so that the last token, of 1
    exactly, means the last bin as well. Numbers beyond are cut off at -1 and 1."""

    size: int = 256

    def longest(self, num_actions: int, action_size: int) -> int:
        return num_actions * action_size

    def encode_flops(self, num_actions: int, action_size: int) -> int:
        return 0

    def decode_flops(self, num_actions: int, action_size: int) -> int:
        return 0


class BinTokeniser(nn.Module):
    """The module of :class:`ActionBins`; nothing is fitted, nothing learned."""

    def __init__(self, spec: ActionBins, num_actions: int, action_size: int) -> None:
        super().__init__()
        self.spec = spec

    def fit(self, chunks: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "c n a"]) -> None:
        """Nothing: the bins are given."""

    def encode(self, chunk: Float[Tensor, "b n a"]) -> list[list[int]]:
        """The last edge that is not above each number."""
        edges = self._edges().to(chunk.device)
        found = torch.bucketize(chunk.double().clamp(-1, 1).contiguous(), edges, right=True) - 1
        return found.flatten(1).tolist()

    def decode(self, rows: list[list[int]], num_actions: int, action_size: int) -> Float[Tensor, "b n a"]:
        """Bin centres; rows of another length mean zeros."""
        edges, num = self._edges(), num_actions * action_size
        centres = (edges[:-1] + edges[1:]) / 2
        chunk = torch.zeros(len(rows), num, dtype=torch.float64)
        for index, row in enumerate(rows):
            if len(row) == num:
                chunk[index] = centres[torch.tensor(row).clamp(0, len(centres) - 1)]
        return chunk.reshape(-1, num_actions, action_size)

    def _edges(self) -> Float[Tensor, " e"]:
        return torch.linspace(-1, 1, self.spec.size, dtype=torch.float64)
