"""Words to tokens and back: a word vocabulary with a byte fallback, so that no instruction is ever unreadable.

At nano size the vocabulary is the grammar of the embedded world; any other word is spelt in UTF-8 bytes. Published
sizes use the backbone's own tokeniser through the same codec interface.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crossroads.codecs.inputs import on_a_line, refuse_longer
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.spec import Latent
from crossroads.streams import ViewKind, linear_flops
from crossroads.types import NOTHING, Batch, Observation, Window

PAD, START, END = 0, 1, 2
NUM_SPECIAL = 3
NUM_BYTES = 256
PIECE = re.compile(r"<[a-z]+\d+>|\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Ids: 0 pad, 1 start, 2 end, then 256 bytes, then the words."""

    words: tuple[str, ...]

    @property
    def size(self) -> int:
        return NUM_SPECIAL + NUM_BYTES + len(self.words)

    @property
    def start(self) -> int:
        return START

    @property
    def end(self) -> int:
        return END

    def bare(self, text: str) -> list[int]:
        """The ids of a text, to which :meth:`encode` adds nothing."""
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, lower-cased; a word that is not in the vocabulary becomes its bytes."""
        known = {word: NUM_SPECIAL + NUM_BYTES + index for index, word in enumerate(self.words)}
        ids: list[int] = []
        for piece in PIECE.findall(text.lower()):
            ids.extend([known[piece]] if piece in known else [NUM_SPECIAL + byte for byte in piece.encode()])
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of some ids up to the end mark; byte runs are joined into words."""
        pieces: list[str] = []
        spelt = bytearray()
        for index in [*ids, END]:
            if NUM_SPECIAL <= index < NUM_SPECIAL + NUM_BYTES:
                spelt.append(index - NUM_SPECIAL)
                continue
            if spelt:
                pieces.append(spelt.decode(errors="replace"))
                spelt.clear()
            if index == END:
                break
            if index >= NUM_SPECIAL + NUM_BYTES:
                pieces.append(self.words[index - NUM_SPECIAL - NUM_BYTES])
        return " ".join(pieces)


@dataclass(frozen=True, kw_only=True)
class TextTokens:
    """Instruction (or, with ``answer=True``, the text to be produced, which costs a read-out) as learned embeddings.

    ``scaled``: embeddings are multiplied by the square root of the width (Gemma, arXiv 2403.08295). ``tied``: scores
    over the vocabulary are made with the embeddings; else with weights of their own. ``cap``: scores are bent to stay
    below it (Gemma 2, arXiv 2408.00118).
    """

    vocabulary: Vocabulary | PretrainedVocabulary
    max_tokens: int
    answer: bool = False
    scaled: bool = False
    tied: bool = True
    cap: float | None = None

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised", "clean") if self.answer else ("now",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.max_tokens

    def window(self) -> Window:
        return NOTHING

    def num_parameters(self, width: int) -> int:
        return self.vocabulary.size * width * (1 if self.tied else 2)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.max_tokens, width, self.vocabulary.size) if self.answer else 0

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class TextCodec(nn.Module):
    """The module of :class:`TextTokens`."""

    def __init__(self, spec: TextTokens, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.scale = width**0.5 if spec.scaled else 1.0
        self.table = nn.Embedding(spec.vocabulary.size, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        if not spec.tied:
            self.scores = nn.Linear(width, spec.vocabulary.size, bias=False)

    def observe(self, obs: Observation) -> Latent:
        """An empty instruction is one end mark: a tower that reads only the words must have something to read."""
        blank = [index for index, text in enumerate(obs.text) if not self.spec.vocabulary.encode(text)]
        latent = self.tokens(obs.text, ends=False)
        latent.values[blank, 0], latent.valid[blank, 0] = END, True
        return latent

    def target(self, batch: Batch) -> Latent:
        """The answer: instructions are only ever observed."""
        return self.tokens(batch.answer, ends=True)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.max_tokens,)

    def tokens(self, texts: tuple[str, ...], *, ends: bool) -> Latent:
        """Ids padded to the longest text of the batch (at least one token); ``ends`` appends the end mark."""
        end = [self.spec.vocabulary.end] if ends else []
        rows = [self.spec.vocabulary.encode(text) + (end if text else []) for text in texts]
        return self.padded(rows, texts, self.spec.max_tokens)

    def padded(self, rows: list[list[int]], texts: tuple[str, ...], most: int) -> Latent:
        """The ids of some texts, padded to the longest; ``InputError`` for one of more than ``most``."""
        longest = max(1, *(len(row) for row in rows))
        for text, row in zip(texts, rows, strict=True):
            refuse_longer(len(row), most, text)
        device = self.table.weight.device
        ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], device=device)
        valid = torch.tensor([[index < len(row) for index in range(longest)] for row in rows], device=device)
        return Latent(values=ids, valid=valid)

    def embed(self, latent: Int[Tensor, "b n"], level: Tensor) -> Float[Tensor, "b n w"]:
        return self.table(latent) * self.scale

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n v"]:
        scores = hidden @ self.table.weight.T if self.spec.tied else self.scores(hidden)
        return scores if self.spec.cap is None else self.spec.cap * torch.tanh(scores / self.spec.cap)

    def decode(self, latent: Int[Tensor, "b n"]) -> tuple[str, ...]:
        return tuple(self.spec.vocabulary.decode(row) for row in latent.tolist())

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return on_a_line(num_tokens)
