"""Actions written in a language model's vocabulary: a chunk is normalised, made into tokens, and read as text is.

The tokens take over pieces of the vocabulary that are hardly ever used (RT-2, arXiv 2307.15818; OpenVLA, arXiv
2406.09246; pi0-FAST, arXiv 2501.09747), so that the model needs no new weights: the embeddings are those of the text
stream that this one ``shares``. How a chunk becomes tokens is a part of its own (``fast``, ``beast``, ``action_bins``,
``action_text``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crossroads.codecs.action_bins import ActionBins, BinTokeniser
from crossroads.codecs.action_text import ActionText, TextTokeniser
from crossroads.codecs.beast import Beast, BeastTokeniser
from crossroads.codecs.fast import Fast, FastTokeniser
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.spec import Latent
from crossroads.codecs.text import PAD, TextCodec, Vocabulary
from crossroads.errors import InputError
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind, linear_flops
from crossroads.types import NOTHING, Batch, Observation, Window

TOKENISERS: Mapping[type, Callable[[Any, int, int], nn.Module]] = {
    ActionBins: BinTokeniser,
    ActionText: TextTokeniser,
    Beast: BeastTokeniser,
    Fast: FastTokeniser,
}


class ActionTokeniser(Protocol):
    """Chunks of unit scale to tokens and back. Rows of tokens that mean no chunk decode to zeros."""

    def encode(self, chunk: Float[Tensor, "b n a"]) -> list[list[int]]: ...

    def decode(self, rows: list[list[int]], num_actions: int, action_size: int) -> Float[Tensor, "b n a"]: ...

    def fit(self, chunks: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "c n a"]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class DiscreteActions:
    """A chunk of ``num_actions`` actions as text.

    ``last``: the piece of the vocabulary that stands for token 0; token t is piece ``last - t``. None: tokens are
    pieces (``ActionText``). ``before`` and ``after``: words around the tokens; behind them comes the end mark.
    ``most``: how many pieces that may be in all; None: as many as the tokeniser may need.
    """

    num_actions: int
    action_size: int
    control_hz: float
    tokeniser: Fast | Beast | ActionBins | ActionText
    vocabulary: Vocabulary | PretrainedVocabulary
    last: int | None
    before: str = ""
    after: str = ""
    most: int | None = None
    normaliser: NormaliserKind = "quantile"

    def __post_init__(self) -> None:
        if self.last is not None and not self.tokeniser.size <= self.last + 1 <= self.vocabulary.size:
            raise InputError(
                where="DiscreteActions.last",
                expected=f"a piece with room for {self.tokeniser.size} tokens, {self.vocabulary.size - 1} at most",
                got=str(self.last),
                do="Choose another piece, or fewer tokens.",
            )
        plain = isinstance(self.tokeniser, ActionText) and self.tokeniser.vocabulary == self.vocabulary
        if (self.last is None) != plain:
            raise InputError(
                where="DiscreteActions.last",
                expected="a piece of the vocabulary, or None where actions are plain text of that vocabulary",
                got=f"{self.last} with {type(self.tokeniser).__name__}",
                do="Correct it.",
            )

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised", "clean")

    def num_tokens(self, view: ViewKind) -> int:
        if self.most is not None:
            return self.most
        around = len(self.before.encode()) + len(self.after.encode())  # no vocabulary needs more pieces than bytes
        return self.tokeniser.longest(self.num_actions, self.action_size) + around + 1

    def window(self) -> Window:
        asked = {"num_actions": self.num_actions, "action_size": self.action_size, "control_hz": self.control_hz}
        return Window(**{**vars(NOTHING), **asked})

    def num_parameters(self, width: int) -> int:
        """None of its own."""
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_tokens(view), width, self.vocabulary.size)

    def encode_flops(self, view: ViewKind) -> int:
        return self.tokeniser.encode_flops(self.num_actions, self.action_size)

    def decode_flops(self) -> int:
        return self.tokeniser.decode_flops(self.num_actions, self.action_size)


class DiscreteActionCodec(nn.Module):
    """The module of :class:`DiscreteActions`; its embeddings are those of the text codec that it goes ``through``.

    A chunk cut off by the end of its episode counts with its last action held; one without any does not count.
    """

    def __init__(self, spec: DiscreteActions, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.normaliser = Normaliser(spec.action_size)
        self.tokeniser = TOKENISERS[type(spec.tokeniser)](spec.tokeniser, spec.num_actions, spec.action_size)
        self._text: list[TextCodec] = []  # a list: the module is registered once, under the text stream's name

    def through(self, text: nn.Module) -> None:
        """Use the embeddings of a text codec."""
        assert isinstance(text, TextCodec)
        self._text[:] = [text]

    @property
    def tokens(self) -> ActionTokeniser:
        return self.tokeniser  # pyright: ignore[reportReturnType]

    def fit(self, chunks: Float[Tensor, "c n a"]) -> None:
        """Fit the tokeniser on chunks in physical units, behind a normaliser that has been fitted before."""
        self.tokens.fit(self.normaliser.normalise(chunks.to(self.normaliser.offset)))

    def observe(self, obs: Observation) -> Latent:
        raise AssertionError("actions are never observed: a recipe with a 'now' view of actions is refused")

    def target(self, batch: Batch) -> Latent:
        """Pieces padded to the longest chunk of the batch.

        Raises ``InputError`` for a chunk that takes more pieces than may be.
        """
        known = batch.actions_valid.any(dim=1, keepdim=True)
        chunk = self.normaliser.normalise(batch.held_actions) * known.unsqueeze(-1)
        rows = [self.pieces(row) for row in self.tokens.encode(chunk)]
        longest, most = max(len(row) for row in rows), self.spec.num_tokens("noised")
        if longest > most:
            raise InputError(
                where="discrete actions",
                expected=f"at most {most} pieces of the vocabulary for a chunk",
                got=str(longest),
                do="Raise `most` of the recipe's action stream, or shorten the chunk.",
            )
        device = batch.actions.device
        ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], device=device)
        there = torch.tensor([[index < len(row) for index in range(longest)] for row in rows], device=device)
        return Latent(values=ids, valid=there & known)

    def pieces(self, tokens: list[int]) -> list[int]:
        """Tokens as pieces of the vocabulary, with what stands around them."""
        spec = self.spec
        written = tokens if spec.last is None else [spec.last - token for token in tokens]
        before, after = (spec.vocabulary.bare(words) for words in (spec.before, spec.after))
        return [*before, *written, *after, spec.vocabulary.end]

    def tokens_of(self, pieces: list[int]) -> list[int]:
        """The tokens that are written in some pieces; none where one of them is no token, or the words around them are
        not there (openpi, which reads such a chunk as zeros)."""
        spec = self.spec
        before, after = (spec.vocabulary.bare(words) for words in (spec.before, spec.after))
        written = pieces[: pieces.index(spec.vocabulary.end)] if spec.vocabulary.end in pieces else pieces
        if written[: len(before)] != before:
            return []
        written = written[len(before) :]
        ends = [start for start in range(len(written)) if after and written[start : start + len(after)] == after]
        written = written[: ends[0]] if ends else written
        tokens = written if spec.last is None else [spec.last - piece for piece in written]
        return tokens if all(0 <= token < spec.tokeniser.size for token in tokens) else []

    def decode(self, latent: Int[Tensor, "b n"]) -> Float[Tensor, "b steps a"]:
        """Actions in physical units. What cannot be decoded is zero in unit scale, the middle of the actions' range:
        published FAST does the same, whatever that means for the robot."""
        rows = [self.tokens_of(row) for row in latent.tolist()]
        chunk = self.tokens.decode(rows, self.spec.num_actions, self.spec.action_size)
        return self.normaliser.restore(chunk.to(self.normaliser.offset))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view),)

    def embed(self, latent: Int[Tensor, "b n"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self._text[0].embed(latent, level)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n v"]:
        return self._text[0].read(hidden)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self._text[0].grid(view, num_tokens)
