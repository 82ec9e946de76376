"""What codecs of inputs have in common: tokens that are observed and read, and never predicted.

A specification is a :class:`InputTokens`, its module an :class:`InputCodec`; a frozen encoder's states that enter the
tower as they are (no weights of the policy) are a :class:`FeatureCodec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.spec import Latent, NeverTrained
from crossroads.errors import InputError
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window


@dataclass(frozen=True, kw_only=True)
class InputTokens:
    """One view, ``now``; nothing beyond text and state asked of the data, no weights and no work, but for what a
    specification says itself. Without fields, so that it is in no fingerprint."""

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now",)

    def window(self) -> Window:
        return NOTHING

    def num_parameters(self, width: int) -> int:
        return 0

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0

    def encode_flops(self, view: ViewKind) -> int:
        return 0

    def decode_flops(self) -> int:
        return 0


class InputCodec(nn.Module):
    """Observes; what is observed is also the target; a recipe that would predict it was refused by ``validate``."""

    def observe(self, obs: Observation) -> Latent:
        raise NotImplementedError  # abstract

    def target(self, batch: Batch) -> Latent:
        return self.observe(batch.obs)

    def read(self, hidden: Float[Tensor, "b n w"]) -> Tensor:
        raise AssertionError(f"{type(self).__name__} is an input: validate() refuses a recipe that predicts it")

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return on_a_line(num_tokens)


class FeatureSpec(Protocol):
    """The sizes of a frozen encoder's states."""

    @property
    def width(self) -> int: ...

    def num_tokens(self, view: ViewKind) -> int: ...


class FeatureCodec(InputCodec, NeverTrained):
    """States of a frozen encoder, as wide as their tower, which they enter unchanged."""

    def __init__(self, spec: FeatureSpec, width: int) -> None:
        super().__init__()
        if spec.width != width:
            raise InputError(
                where=type(spec).__name__,
                expected=f"features as wide as their tower ({width})",
                got=str(spec.width),
                do="Give the tower the width of the features.",
            )
        self.spec = spec

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.width)

    def embed(self, latent: Float[Tensor, "b n w"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent


def refuse_longer(num: int, most: int, text: str) -> None:
    """Raises ``InputError`` for a text of more tokens than its stream has."""
    if num > most:
        raise InputError(
            where="text codec",
            expected=f"at most {most} tokens",
            got=f"{num} in {text!r}",
            do="Shorten the text, or raise max_tokens of the recipe's text stream.",
        )


def on_a_line(num_tokens: int, first: int = 0) -> Float[Tensor, "n 3"]:
    """Places one behind the other, ``first`` on; row and column are 0."""
    places = torch.zeros(num_tokens, 3)
    places[:, 0] = torch.arange(num_tokens) + first
    return places
