"""States of a frozen text encoder, kept on disk, so that a policy acts on known instructions without the encoder.

One file for each instruction, in the precision that the encoder computed in (bfloat16 for UMT5), so that nothing is
lost; tokens past the text are not stored. The published systems keep such files too (Fast-WAM, Motus, Cosmos Policy).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crossroads.codecs.identity import weights_identity
from crossroads.errors import InputError
from crossroads.storage import appearing, default_root

PARTS = ("text_encoder", "tokenizer")
"""The folders of a checkpoint whose content decides the states of a text."""

MOST_BYTES = 2**30
"""What one codec holds of states in memory: 512 tokens of 256 instructions as UMT5-XXL sees them, of 10 as the joined
layers of Cosmos-Reason1 do."""


@dataclass(frozen=True, kw_only=True)
class TextCache:
    """The stored states of one encoder, known by the content of its files."""

    folder: Path

    @classmethod
    def of(cls, source: str) -> TextCache | None:
        """The cache of the encoder at hand, else of the only one that ever filled a cache under this ``source``.

        None where neither is: which of several encoders is meant cannot be told without its files.
        """
        root, met = default_root() / "text", _met(source)
        identity = weights_identity(source, PARTS)
        if identity is None:
            known = [path.name for path in met.iterdir() if not path.name.startswith(".")] if met.is_dir() else []
            return cls(folder=root / known[0]) if len(known) == 1 else None
        return cls(folder=root / identity[:32])

    @classmethod
    def of_loaded(cls, source: str) -> TextCache | None:
        """The cache of the encoder that this process has loaded, even if its files have been replaced since."""
        identity = _identity_when_loaded(source)
        return None if identity is None else cls(folder=default_root() / "text" / identity[:32])

    def read(self, *, template: str, max_tokens: int, text: str) -> Float[Tensor, "n w"] | None:
        """The states of an instruction, without those past its end; None if they were never stored."""
        path = self._path(template, max_tokens, text)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as stored:
                return stored.get_tensor("states")
        except SafetensorError as error:  # files appear whole, so the disk is at fault, or a hand
            raise InputError(
                where=str(path), expected="stored states of a text", got=str(error), do="Delete the file."
            ) from error

    def write(self, states: Float[Tensor, "n w"], *, source: str, template: str, max_tokens: int, text: str) -> None:
        """Keep the states of an instruction, and that this encoder was met under ``source``."""
        try:
            with appearing(self._path(template, max_tokens, text)) as draft:
                save_file({"states": states.contiguous()}, draft, {"text": text, "template": template})
            with appearing(_met(source) / self.folder.name) as draft:
                draft.write_text(source)
        except OSError as error:
            raise InputError(
                where=f"text cache {self.folder}",
                expected="a folder that can be written",
                got=str(error),
                do="Make room, or set CROSSROADS_CACHE to another folder.",
            ) from error

    def _path(self, template: str, max_tokens: int, text: str) -> Path:
        key = hashlib.sha256(json.dumps([template, max_tokens, text]).encode()).hexdigest()
        return self.folder / f"{key[:32]}.safetensors"


class KnownStates:
    """The states of instructions for one codec: in memory those asked for last, on disk all, else computed.

    Kept in the precision of the encoder, on the CPU. ``template`` names all that is done to a text, in words or in
    layers, so that nobody takes other states for these.
    """

    def __init__(self, *, source: str, template: str, max_tokens: int, width: int) -> None:
        self.source, self.template, self.max_tokens, self.width = source, template, max_tokens, width
        self.held: dict[str, Float[Tensor, "n w"]] = {}
        self.cache: TextCache | None = None

    def of(self, text: str, compute: Callable[[str], Float[Tensor, "n w"]]) -> Float[Tensor, "n w"]:
        """The states of one instruction, without those past its end.

        Raises ``InputError`` where they must be computed and cannot, and where they are not ``width`` wide.
        """
        states = self.held.pop(text, None)
        if states is None:
            states = self._kept(text, compute)
        if states.shape[-1] != self.width:
            raise InputError(
                where=f"text encoder of {self.source}",
                expected=f"states of {self.width} numbers a token",
                got=str(states.shape[-1]),
                do="Give the recipe's text stream the sizes of this encoder, or the encoder that it describes.",
            )
        self.held[text] = states  # the last of all; the first to go is the one asked for longest ago
        while sum(one.nbytes for one in self.held.values()) > MOST_BYTES and len(self.held) > 1:
            del self.held[next(iter(self.held))]
        return states

    def _kept(self, text: str, compute: Callable[[str], Float[Tensor, "n w"]]) -> Float[Tensor, "n w"]:
        asked = {"template": self.template, "max_tokens": self.max_tokens, "text": text}
        if self.cache is None:
            self.cache = TextCache.of(self.source)
        states = self.cache.read(**asked) if self.cache else None
        if states is None:
            states = compute(text).cpu()
            self.cache = TextCache.of_loaded(self.source)  # the files are here now, maybe others than before
            if self.cache:
                self.cache.write(states, source=self.source, **asked)
        return states

    def part(self, load: Callable[[str, str], Any], subfolder: str, text: str) -> Any:
        """A part of the encoder; where it cannot be had, the error also names the other way to the states."""
        try:
            return load(self.source, subfolder)
        except InputError as error:
            raise InputError(
                where=error.where,
                expected=f"{error.expected}, or kept states of {text!r} in {default_root() / 'text'}",
                got=f"{error.got}; and none kept by an encoder that is known for certain",
                do=f"{error.do} Or act on this text where the encoder is, and copy the folder here.",
            ) from error


@cache
def _identity_when_loaded(source: str) -> str | None:
    """Asked first right after loading, which also happens once in a process."""
    return weights_identity(source, PARTS)


def _met(source: str) -> Path:
    """A folder with one file for each encoder that was met under a name."""
    return default_root() / "text" / "sources" / hashlib.sha256(source.encode()).hexdigest()[:32]
