"""A stage small enough to reason about: codecs that only count tokens, and edges between plainly named groups.

For tests of structure (layout, recipe, axes, cost). ``tiny_recipe`` is a real recipe of few hundred weights, with
joint, cross and modulate edges, that tests change one piece at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import END, START, TextTokens, Vocabulary
from crossroads.objectives import Flow, TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import CLEAN, NOISED, NOW, Carries, Clock, Edge, Stream, View, ViewKind, reads
from crossroads.towers.gemma import Gemma
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan
from crossroads.types import NOTHING, Window


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A codec that has a number of tokens and nothing else."""

    tokens: int

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("now", "noised", "clean", "prior", "posterior")

    def num_tokens(self, view: ViewKind) -> int:
        return self.tokens

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


def counted(
    name: str, tokens: int = 2, *, views: tuple[View, ...] = (NOW,), tower: str = "one", carries: Carries = "image"
) -> Stream:
    """A stream of so many tokens."""
    return Stream(name=name, carries=carries, codec=Counted(tokens=tokens), tower=tower, views=views)


VOCABULARY = Vocabulary(
    words=(
        "red",
        "blue",
        "green",
        "cube",
        "ball",
        "button",
        "drawer",
        "bin",
        "push",
        "press",
        "put",
        "close",
        "go",
        "to",
        "the",
        "in",
        "left",
        "is",
        "at",
        "<x3>",
        "<y9>",
        ".",
    )
)
"""The words of ``nano_batch``, so that its texts are short."""
TEXT = TextTokens(vocabulary=VOCABULARY, max_tokens=8)
ANSWER = TextTokens(vocabulary=VOCABULARY, max_tokens=16, answer=True)
STATE = StateToken(num_state=4)
ACTION = ActionTokens(num_actions=6, action_size=4, control_hz=10.0)
NEXT_TOKEN = TokenCE(start_token=START, end_token=END)
WORDS = Plain(width=8, mlp=12, depth=2, heads=2)
LANGUAGE = Gemma(width=12, mlp=20, depth=3, heads=2, kv_heads=1, head_dim=6)
EXPERT = Wan(
    width=12,
    mlp=16,
    depth=3,
    heads=2,
    head_dim=6,
    rotary=(6,),
    frequency_width=8,
    context_width=8,
    modulated_head=False,
)


def tiny_streams() -> tuple[Stream, ...]:
    """Words, a state and actions; the actions have a noised and a clean view."""
    return (
        Stream(name="text", carries="text", codec=TEXT, tower="words"),
        Stream(name="state", carries="state", codec=STATE, tower="expert"),
        Stream(name="action", carries="action", codec=ACTION, tower="expert", views=(NOISED, CLEAN), objective=Flow()),
    )


def tiny_edges(*, layers: tuple[int, ...] | None = None, tap: int | None = None, grad: bool = True) -> tuple[Edge, ...]:
    """Words are read across at some layers; the actions read state and each other; the clean view reads itself."""
    across = tuple(
        Edge(dst=dst, src="text", via="cross", layers=layers, tap=tap, grad=grad)
        for dst in ("state", "action", "action.clean")
    )
    return (
        *reads("text", "text"),
        *reads("state", "state"),
        *reads("action", "state", "action"),
        *reads("action.clean", "action.clean"),
        *across,
    )


def tiny_recipe(edges: tuple[Edge, ...] | None = None) -> Recipe:
    """A recipe of the tiny streams."""
    return Recipe(
        name="tiny",
        paper="none",
        stage=Stage(
            name="policy",
            streams=tiny_streams(),
            edges=tiny_edges() if edges is None else edges,
            towers=(Tower(name="words", spec=WORDS), Tower(name="expert", spec=EXPERT)),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=2)),),
            clock=Clock(block_s=0.2, tokens_per_block=(("action", 2),)),
            sequence=("text",),
        ),
        phases=(
            Phase(name="full", trains=("words", "expert"), losses=("action",)),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="tokens"),
    )
