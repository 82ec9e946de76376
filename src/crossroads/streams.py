"""Streams, views, edges and the clock: the frozen vocabulary in which every published design is written.

A stream is one kind of thing over time (text, images, future video, state, actions). A (stream, view) pair is a
*group* of tokens; an edge says that one group reads another. Nothing here holds weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from crossroads.errors import InputError
from crossroads.types import Window

ViewKind = Literal["now", "noised", "clean", "prior", "posterior"]
When = Literal["all", "same", "past", "upto", "causal"]
Via = Literal["joint", "cross", "modulate", "value"]
Carries = Literal["text", "image", "video", "state", "action", "plan", "value"]


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """What the network is shown (``latent`` at ``level``, which is ``b l``: each for as many tokens as the others) and
    what it must answer."""

    latent: Tensor
    level: Tensor
    target: Tensor


class Objective(Protocol):
    """How one stream is learned; ``weight`` scales its loss in the sum. Losses are per sample."""

    @property
    def weight(self) -> float: ...

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Tensor:
        """``num`` levels for each sample, ``b num``; zeros, ``b 1``, where the objective knows no levels."""
        ...

    def corrupt(self, latent: Tensor, level: Tensor, generator: torch.Generator) -> Corrupted: ...

    def loss(self, output: Tensor, corrupted: Corrupted, valid: Tensor) -> Tensor: ...


class Levels(Protocol):
    """A distribution of noise levels."""

    def draw(self, num: int, generator: torch.Generator) -> Tensor: ...


class CodecSpec(Protocol):
    """The value that describes a codec: how many tokens a view has, what it asks of a dataset, what it costs."""

    @property
    def views(self) -> tuple[ViewKind, ...]:
        """The views in which a stream of this codec can be present."""
        ...

    def num_tokens(self, view: ViewKind) -> int: ...

    def window(self) -> Window: ...

    def num_parameters(self, width: int) -> int:
        """Weights of the codec's module, without an autoencoder's."""
        ...

    def embed_flops(self, view: ViewKind, width: int) -> int:
        """Latent to tokens, one sample."""
        ...

    def read_flops(self, view: ViewKind, width: int) -> int:
        """Hidden states back to a latent, one sample; zero for what is only ever an input."""
        ...

    def encode_flops(self, view: ViewKind) -> int:
        """Raw data to a latent, one sample (an autoencoder's work; most codecs have none)."""
        ...

    def decode_flops(self) -> int:
        """A latent back to raw data, one sample."""
        ...


@dataclass(frozen=True, kw_only=True)
class View:
    """One way in which a stream is present: observed now, being denoised, teacher-forced clean, guessed, read.

    ``noised_share``: the share of training samples in which a ``clean`` view is noised all the same (Fast-WAM IDM
    uses 0.5, arXiv 2603.16666), so that act-time imaginations are not out of distribution. ``levels``: from which the
    noise of those samples is drawn (LingBot-VA, arXiv 2601.21998: the lower half); None: from the objective's.
    """

    kind: ViewKind
    noised_share: float = 0.0
    levels: Levels | None = None


NOW = View(kind="now")
NOISED = View(kind="noised")
CLEAN = View(kind="clean")
PRIOR = View(kind="prior")
POSTERIOR = View(kind="posterior")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One kind of thing over time: how it becomes tokens, which weights process it, how it is learned (if it is)."""

    name: str
    carries: Carries
    codec: CodecSpec
    tower: str
    views: tuple[View, ...] = (NOW,)
    objective: Objective | None = None
    shares: str | None = None
    """Name of the stream whose codec weights this one uses (an answer shares the prompt's vocabulary)."""
    told: str | None = None
    """Name of the stream whose noise level the towers are told for this one's observed tokens, block by block."""
    labelled_by: str | None = None
    """Name of the stream whose model makes this one's targets of frames (latent actions of video without actions)."""
    hears: tuple[str, ...] = ()
    """Streams whose noise levels the tower is told beside those of its own tokens, in this order (UWM, arXiv
    2504.02792: both of its levels at every token; mimic-video, arXiv 2512.15692: the video's beside the action's)."""

    @property
    def principal(self) -> ViewKind:
        """The view that carries the stream's bare name: the noised one if there is one, else the first."""
        kinds = [view.kind for view in self.views]
        return "noised" if "noised" in kinds else kinds[0]  # pyright: ignore[reportReturnType]

    def group(self, kind: ViewKind) -> str:
        """The name of the token group of this stream in one view."""
        return self.name if kind == self.principal else f"{self.name}.{kind}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The tokens of one stream in one view."""

    name: str
    stream: Stream
    view: View

    @property
    def tower(self) -> str:
        return self.stream.tower


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Group ``dst`` reads group ``src``.

    ``when`` relates blocks of the clock (``causal`` relates tokens); ``window`` keeps source tokens that begin at most
    so many blocks before the reader's (a fraction cuts a block: 1.5 with two frames a block keeps five frames, up to
    the end of the reader's). ``grad=False`` cuts the gradient on this edge and nothing else. ``layers`` limits the
    reading layers of ``dst``; ``tap`` is the layer of ``src`` after which a ``cross`` or ``modulate`` edge reads its
    hidden states (None: after the last layer and the final norm).

    ``via="value"`` hands on what one tower leaves behind as tokens of another (``codecs.handed``); from a stream that
    is drawn it shows pictures: when acting, ``dst`` observes what ``src`` was settled to, decoded, and in training what
    was recorded in its place, so that no gradient passes.
    """

    dst: str
    src: str
    when: When = "all"
    via: Via = "joint"
    grad: bool = True
    layers: tuple[int, ...] | None = None
    window: float | None = None
    tap: int | None = None


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How tokens fall into blocks of time: ``tokens_per_block`` by stream; a stream not named is all block 0.

    What is observed now of a stream that goes on (one with further views) lies before block 0. ``levels_per_block``:
    how many noise levels training draws for each block (LingBot-VA: one for each frame of it).
    """

    block_s: float = 0.0
    tokens_per_block: tuple[tuple[str, int], ...] = field(default=())
    levels_per_block: int = 1

    def block(self, stream: str, num_tokens: int) -> list[int]:
        """The block of each of a stream's tokens."""
        per_block = self.per_block(stream)
        return [index // per_block if per_block else 0 for index in range(num_tokens)]

    def per_block(self, stream: str) -> int:
        """Tokens of a stream in each block; 0 where they are all one block."""
        return dict(self.tokens_per_block).get(stream, 0)

    def num_blocks(self, stream: str, num_tokens: int) -> int:
        """How many blocks a stream's tokens fill; 1 where they are all one block."""
        per_block = self.per_block(stream)
        return num_tokens // per_block if per_block else 1

    def num_levels(self, stream: str, num_tokens: int) -> int:
        """How many noise levels training draws for a stream's tokens; 1 where they are all one block."""
        return self.num_blocks(stream, num_tokens) * (self.levels_per_block if self.per_block(stream) else 1)


NO_BLOCKS = Clock()


def reads(dst: str, *sources: str, when: When = "all", via: Via = "joint", grad: bool = True) -> tuple[Edge, ...]:
    """One edge from ``dst`` to each source, all of one kind."""
    return tuple(Edge(dst=dst, src=src, when=when, via=via, grad=grad) for src in sources)


def groups_of(streams: tuple[Stream, ...]) -> dict[str, Group]:
    """All groups of some streams by name, in an order that does not depend on the order of the streams."""
    names = [stream.name for stream in streams]
    if len(set(names)) != len(names):
        raise InputError(
            where="streams", expected="every stream named once", got=f"{sorted(names)}", do="Rename the repeated one."
        )
    groups: dict[str, Group] = {}
    for stream in sorted(streams, key=lambda stream: stream.name):
        for view in stream.views:
            name = stream.group(view.kind)
            groups[name] = Group(name=name, stream=stream, view=view)
    return groups


def linear_parameters(inputs: int, outputs: int) -> int:
    """Weights and biases of one linear map."""
    return inputs * outputs + outputs


def linear_flops(num_tokens: int, inputs: int, outputs: int) -> int:
    """Multiply and add of one matrix product, counted as two operations."""
    return 2 * num_tokens * inputs * outputs
