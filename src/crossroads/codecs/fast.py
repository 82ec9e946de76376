"""FAST: a chunk of actions as byte pairs of its rounded cosine transform over time.

Pertsch et al. 2025, arXiv 2501.09747; ``processing_action_tokenizer.py`` of physical-intelligence/fast (Apache-2.0).
Orthonormal DCT-II of each dimension, times ``scale``, rounded; all dimensions of frequency 0 first, then those of
frequency 1; each integer, less the smallest that was met in fitting, is a Unicode character of a text that a byte-level
byte-pair encoding shortens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossroads.codecs.published import fast_files
from crossroads.errors import InputError
from crossroads.space import Fitted
from crossroads.streams import linear_flops

UNFITTED_LEAST = -64
"""The smallest integer of a tokeniser without data: 128 of them are one byte each."""
SURROGATES = 0xD800
"""Characters from here on do not exist in UTF-8; the published code breaks on them (openpi issue 333)."""


@dataclass(frozen=True, kw_only=True)
class Fast:
    """A FAST tokeniser of at most ``size`` tokens. ``source``: a published one (a folder or a repository of the model
    hub) to start from instead of a fit on the data."""

    size: int = 1024
    scale: float = 10.0
    source: str | None = None

    def longest(self, num_actions: int, action_size: int) -> int:
        """One token a number: no merges, and all characters below 128."""
        return num_actions * action_size

    def encode_flops(self, num_actions: int, action_size: int) -> int:
        """The transform of one chunk."""
        return linear_flops(action_size, num_actions, num_actions)

    def decode_flops(self, num_actions: int, action_size: int) -> int:
        return self.encode_flops(num_actions, action_size)


class FastTokeniser(Fitted):
    """The module of :class:`Fast`. What was fitted is saved with the policy's weights: the least integer, the
    ``alphabet`` (code points in the order of their ids) and the ``merges`` (pairs of ids), both filled up with -1.

    Before a fit, and without a source, its tokens are bytes (as many as ``size`` allows) and nothing is merged.
    """

    least: Tensor
    alphabet: Tensor
    merges: Tensor

    def __init__(self, spec: Fast, num_actions: int, action_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("least", torch.zeros((), dtype=torch.int64))
        self.register_buffer("alphabet", torch.zeros(spec.size, dtype=torch.int64))
        self.register_buffer("merges", torch.zeros(spec.size, 2, dtype=torch.int64))
        self.reset()

    def reset(self) -> None:
        self.least.fill_(UNFITTED_LEAST)
        self.alphabet.fill_(-1)
        self.merges.fill_(-1)

    def quantised(self, chunk: Float[Tensor, "*b n a"]) -> Int[Tensor, "*b n a"]:
        """Rounded coefficients, frequency by frequency, ties to even."""
        return (cosine_transform(chunk) * self.spec.scale).round().long()

    def characters(self, chunk: Float[Tensor, "*b n a"]) -> Int[Tensor, "*b m"]:
        """Code points, low frequencies first. Below the least integer that was fitted they are cut off; above the
        greatest they are not, as published."""
        return (self.quantised(chunk).cpu() - self.least.cpu()).clamp(min=0).flatten(-2)

    def encode(self, chunk: Float[Tensor, "b n a"]) -> list[list[int]]:
        """The tokens of each chunk, of unit scale (quantiles at -1 and 1).

        Raises ``InputError`` for actions so large that no character is left for them.
        """
        self._load_source()
        texts = [_text(row) for row in self.characters(chunk).tolist()]
        return [found.ids for found in self.pieces().encode_batch(texts, add_special_tokens=False)]

    def decode(self, rows: list[list[int]], num_actions: int, action_size: int) -> Float[Tensor, "b n a"]:
        """The chunks that some tokens mean; tokens of another number of coefficients mean zeros, as published. Half of
        a character reads as U+FFFD, which is a large coefficient: that is published behaviour, too."""
        self._load_source()
        pieces, num, least = self.pieces(), num_actions * action_size, int(self.least)
        texts = pieces.decode_batch(rows, skip_special_tokens=False) if rows else []
        numbers = [[ord(one) + least for one in text] if len(text) == num else [0] * num for text in texts]
        coefficients = torch.tensor(numbers, dtype=torch.float64).reshape(-1, num_actions, action_size)
        return inverse_cosine_transform(coefficients / self.spec.scale)

    def fit(self, chunks: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "c n a"]) -> None:
        """Learn the byte pairs of some chunks of unit scale, or take those of ``source``.

        Raises ``InputError`` where there is nothing to learn from, or more characters than tokens.
        """
        self.reset()
        if self.spec.source is not None:
            self._load_source()
            return
        quantised = [self.quantised(chunk).flatten() for chunk in chunks]
        if not quantised:
            _refuse("chunks of actions to learn from", "none", "Label at least one episode.")
        together = torch.cat(quantised)
        least, most = int(together.min()), int(together.max())
        texts = (_text((row - least).tolist()) for row in quantised)
        self.take(_trained(texts, most - least + 1, self.spec.size), least)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``processor_config.json`` as the published tokenisers have them."""
        self._load_source()
        folder.mkdir(parents=True, exist_ok=True)
        self.pieces().save(str(folder / "tokenizer.json"))
        told = {
            "processor_class": "UniversalActionProcessor",
            "scale": self.spec.scale,
            "vocab_size": self.spec.size,
            "min_token": int(self.least),
            "action_dim": None,
            "time_horizon": None,
        }
        (folder / "processor_config.json").write_text(json.dumps(told, indent=2))

    def load(self, folder: Path) -> None:
        """Take a tokeniser that was published or saved.

        Raises ``InputError`` for files that are missing or not of a FAST tokeniser, and for other sizes than these.
        """
        told = _read(folder / "processor_config.json")
        for name, ours in (("scale", self.spec.scale), ("vocab_size", self.spec.size)):
            if told.get(name) != ours:
                _refuse(f"{name} {ours:g}", str(told.get(name)), f"Give the recipe the {name} of {folder}.")
        self.take(_read(folder / "tokenizer.json"), int(told["min_token"]))

    def pieces(self) -> Any:
        """The byte-pair encoding, a ``tokenizers.Tokenizer``."""
        alphabet = tuple(code for code in self.alphabet.tolist() if code >= 0)
        if not alphabet:
            return _encoding(tuple(byte_characters()[: self.spec.size]), ())
        return _encoding(alphabet, tuple((left, right) for left, right in self.merges.tolist() if left >= 0))

    def _load_source(self) -> None:
        if self.spec.source is not None and self.alphabet[0] < 0:
            self.load(fast_files(self.spec.source))

    def take(self, told: dict[str, Any], least: int) -> None:
        """Keep a byte-pair encoding in the form of a ``tokenizer.json``."""
        alphabet, merges = _parts(told)
        size = self.spec.size
        if len(told["model"]["vocab"]) > size or len(merges) > size:
            got = f"{len(alphabet)} characters and {len(merges)} merges"
            _refuse(f"at most {size} tokens", got, "Raise the size, or lower the scale.")
        self.reset()
        self.least.fill_(least)
        self.alphabet[: len(alphabet)] = torch.tensor(alphabet)
        self.merges[: len(merges)] = torch.tensor(merges).reshape(-1, 2)


def cosine_transform(chunk: Float[Tensor, "*b n a"]) -> Float[Tensor, "*b n a"]:
    """The orthonormal DCT-II along time, of each dimension, in double precision."""
    return torch.einsum("kn,...na->...ka", _cosines(chunk.shape[-2]).to(chunk.device), chunk.double())


def inverse_cosine_transform(coefficients: Float[Tensor, "*b n a"]) -> Float[Tensor, "*b n a"]:
    """The orthonormal DCT-III: back from coefficients to a chunk."""
    basis = _cosines(coefficients.shape[-2]).to(coefficients.device)
    return torch.einsum("kn,...ka->...na", basis, coefficients.double())


@cache
def _cosines(num: int) -> Float[Tensor, "k n"]:
    step = torch.arange(num, dtype=torch.float64)
    basis = math.sqrt(2 / num) * torch.cos(math.pi * (step + 0.5) * step[:, None] / num)
    basis[0] /= math.sqrt(2)
    return basis


def byte_characters() -> list[int]:
    """The code point that stands for each byte in a byte-level encoding (GPT-2): itself where it can be printed."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printed]
    return [byte if byte in printed else 256 + hidden.index(byte) for byte in range(256)]


def _text(codes: list[int]) -> str:
    if max(codes, default=0) >= SURROGATES:
        got = f"a coefficient {max(codes)} above the least"
        _refuse(f"coefficients that a character can hold (below {SURROGATES})", got, "Normalise the actions.")
    return "".join(map(chr, codes))


def _trained(texts: Any, num_characters: int, size: int) -> dict[str, Any]:
    """Byte pairs learned as the published code learns them."""
    library = _library()
    pieces = _bare(library)
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=[chr(code) for code in range(num_characters)],
        max_token_length=10000,
    )
    pieces.train_from_iterator(texts, trainer=trainer)
    return json.loads(pieces.to_str())


@lru_cache(maxsize=8)
def _encoding(alphabet: tuple[int, ...], merges: tuple[tuple[int, int], ...]) -> Any:
    tokens = [chr(code) for code in alphabet]
    known = {token: index for index, token in enumerate(tokens)}
    pairs = []
    for left, right in merges:
        pairs.append((tokens[left], tokens[right]))
        if (joined := tokens[left] + tokens[right]) not in known:
            known[joined] = len(tokens)
            tokens.append(joined)
    return _bare(_library(), known, pairs)


def _bare(library: Any, vocabulary: dict[str, int] | None = None, merges: list[tuple[str, str]] | None = None) -> Any:
    """An encoding with the published settings: bytes, split before it merges by GPT-2's pattern."""
    pieces = library.Tokenizer(library.models.BPE(vocab=vocabulary or {}, merges=merges or []))
    pieces.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = library.decoders.ByteLevel()
    return pieces


def _parts(told: dict[str, Any]) -> tuple[list[int], list[tuple[int, int]]]:
    """Alphabet and merges of a ``tokenizer.json``, such that the rest of its tokens follows from them."""
    model = told.get("model", {})
    vocabulary = model.get("vocab", {})
    split = told.get("pre_tokenizer") or {}
    if (model.get("type"), split.get("type"), split.get("add_prefix_space")) != ("BPE", "ByteLevel", False):
        _refuse("a byte-level byte-pair encoding", f"{model.get('type')} behind {split.get('type')}", "Check the file.")
    if not split.get("use_regex", True) or told.get("normalizer") is not None:
        _refuse("a split by GPT-2's pattern and no normaliser", "another form", "Check the file.")
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    made = {left + right for left, right in pairs}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    characters = [token for token in tokens if token not in made]
    if long := [token for token in characters if len(token) != 1]:
        _refuse("characters, and what is merged of them", repr(long[0]), "Check the file.")
    alphabet, merges = [ord(token) for token in characters], list[tuple[int, int]]()
    try:
        merges = [(vocabulary[left], vocabulary[right]) for left, right in pairs]
        follows = _encoding(tuple(alphabet), tuple(merges)).get_vocab() == vocabulary
    except LookupError:  # a merge of tokens that are not there, or not yet
        follows = False
    if not follows:
        _refuse("characters first, then merges in order", "tokens in another order", "Check the file.")
    return alphabet, merges


def _read(path: Path) -> dict[str, Any]:
    found: object = None
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        _refuse(f"JSON in {path}", str(error), "Name the folder of a saved or published FAST tokeniser.")
    assert isinstance(found, dict)
    return found


def _library() -> Any:
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: F401 (submodules)
    except ImportError as error:
        raise InputError(
            where="FAST tokeniser",
            expected="the package tokenizers",
            got=str(error),
            do="Install it: pip install 'crossroads[backbones]'.",
        ) from error
    return tokenizers


def _refuse(expected: str, got: str, do: str) -> Any:
    raise InputError(where="FAST tokeniser", expected=expected, got=got, do=do)
