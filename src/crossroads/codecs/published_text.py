"""Words the way published backbones read them: a pretrained tokeniser, or the states of a frozen language encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.published import text_encoder, tokeniser
from crossroads.codecs.spec import Latent, NeverTrained
from crossroads.codecs.text_cache import TextCache
from crossroads.errors import InputError
from crossroads.storage import default_root
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class PretrainedVocabulary:
    """The pieces of a published tokeniser, with the same face as the word vocabulary.

    ``suffix`` is tokenised on its own and appended (pi0's newline, its "start of answer" mark; openpi
    ``PaligemmaTokenizer.tokenize``).
    """

    source: str
    size: int
    start: int
    end: int
    subfolder: str = ""
    suffix: str = ""

    def encode(self, text: str) -> list[int]:
        """Start mark, the cleaned text (no underscores, one line), the suffix."""
        cleaned = text.strip().replace("_", " ").replace("\n", " ")
        return [self.start, *self.bare(cleaned), *self.bare(self.suffix)]

    def bare(self, text: str) -> list[int]:
        """The ids of a text as it is."""
        return tokeniser(self.source, self.subfolder).encode(text, add_special_tokens=False) if text else []

    def decode(self, ids: list[int]) -> str:
        """The text up to the end mark."""
        written = ids[: ids.index(self.end)] if self.end in ids else ids
        return tokeniser(self.source, self.subfolder).decode(written, skip_special_tokens=True)


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """Final states of a frozen UMT5 encoder for an instruction put into ``template`` at ``{task}``.

    States past the text are zero and are read all the same, as Fast-WAM does (an all-ones context mask,
    ``robot_video_dataset.py``). The states of an instruction are computed once and kept on disk (``text_cache``).
    """

    source: str
    width: int
    max_tokens: int
    template: str = "{task}"

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now",)

    def num_tokens(self, view: ViewKind) -> int:
        return self.max_tokens

    def window(self) -> Window:
        return NOTHING

    def num_parameters(self, width: int) -> int:
        """None of the policy's: the encoder is frozen, and absent once the instructions' states are kept."""
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        """Nothing per observation: an instruction is encoded once for all its observations."""
        return 0

    def decode_flops(self) -> int:
        return 0


class TextFeatureCodec(NeverTrained):
    """The module of :class:`TextFeatures`; it holds no weights of the policy."""

    def __init__(self, spec: TextFeatures, width: int) -> None:
        super().__init__()
        if spec.width != width:
            raise InputError(
                where="TextFeatures",
                expected=f"features as wide as their tower ({width})",
                got=str(spec.width),
                do="Give the tower the width of the features.",
            )
        self.spec = spec
        self.known: dict[str, Float[Tensor, "n w"]] = {}
        self.cache: TextCache | None = None

    def observe(self, obs: Observation) -> Latent:
        rows = torch.stack([self.features(text) for text in obs.text]).to(obs.state.device)
        return Latent(values=rows, valid=torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device))

    @torch.no_grad()
    def features(self, text: str) -> Float[Tensor, "n w"]:
        """The states of one instruction, zero past its end: known here, kept on disk, or computed now.

        Raises ``InputError`` for a text that is too long, and for a new one where the encoder cannot be loaded.
        """
        if text not in self.known:
            asked = {"template": self.spec.template, "max_tokens": self.spec.max_tokens, "text": text}
            if self.cache is None:
                self.cache = TextCache.of(self.spec.source)
            hidden = self.cache.read(**asked) if self.cache else None
            if hidden is None:
                hidden = self._computed(text)
                self.cache = TextCache.of_loaded(self.spec.source)  # the files are here now, maybe others than before
                if self.cache:
                    self.cache.write(hidden, source=self.spec.source, **asked)
            self.known[text] = torch.nn.functional.pad(hidden.float(), (0, 0, 0, self.spec.max_tokens - len(hidden)))
        return self.known[text]

    def _computed(self, text: str) -> Float[Tensor, "n w"]:
        prompt = self.spec.template.format(task=text)
        ids = self._part(tokeniser, "tokenizer", text)(prompt, return_tensors="pt").input_ids
        if ids.shape[1] > self.spec.max_tokens:
            raise InputError(
                where="text codec",
                expected=f"at most {self.spec.max_tokens} tokens",
                got=f"{ids.shape[1]} in {prompt!r}",
                do="Shorten the text, or raise max_tokens of the recipe's text stream.",
            )
        return self._part(text_encoder, "text_encoder", text)(ids).last_hidden_state[0]

    def _part(self, load: Callable[[str, str], Any], subfolder: str, text: str) -> Any:
        """A part of the encoder; where it cannot be had, the error also names the other way to the states."""
        try:
            return load(self.spec.source, subfolder)
        except InputError as error:
            raise InputError(
                where=error.where,
                expected=f"{error.expected}, or kept states of {text!r} in {default_root() / 'text'}",
                got=f"{error.got}; and none kept by an encoder that is known for certain",
                do=f"{error.do} Or act on this text where the encoder is, and copy the folder here.",
            ) from error

    def target(self, batch: Batch) -> Latent:
        return self.observe(batch.obs)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.max_tokens, self.spec.width)

    def embed(self, latent: Float[Tensor, "b n w"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError("features are inputs: validate() refuses a recipe that predicts them")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        places = torch.zeros(num_tokens, 3)
        places[:, 0] = torch.arange(num_tokens)
        return places
