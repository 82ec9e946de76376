"""One network of a recipe: its streams, edges, towers and schedule; and the phases in which it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.errors import InputError, nearest
from crossroads.layout import Layout
from crossroads.objectives import Align
from crossroads.plans import KL
from crossroads.schedule import Commit, Decode, Draw, Leg, moved
from crossroads.streams import NO_BLOCKS, Clock, Edge, Stream
from crossroads.towers.spec import TowerSpec
from crossroads.types import Window


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A named stack of weights; ``backbone`` names the shipped pretrained weights that it starts from, if any."""

    name: str
    spec: TowerSpec
    backbone: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One network with its own clock and schedule. ``sequence``: groups that share a running position index.

    ``coupled``: sets of streams that are noised to one level in training; the first of each set draws it.
    """

    name: str
    streams: tuple[Stream, ...]
    edges: tuple[Edge, ...]
    towers: tuple[Tower, ...]
    schedule: tuple[Leg, ...]
    clock: Clock = NO_BLOCKS
    sequence: tuple[str, ...] = ()
    coupled: tuple[tuple[str, ...], ...] = ()

    @property
    def layout(self) -> Layout:
        return Layout.compile(self.streams, self.edges, self.clock)

    def stream(self, name: str) -> Stream:
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise InputError(
            where=f"stage {self.name!r}",
            expected="the name of a stream",
            got=repr(name),
            do=nearest(name, [stream.name for stream in self.streams]),
        )

    def leader(self, name: str) -> Stream:
        """The stream that draws the levels of a stream in training: itself, or the first of those it is coupled to."""
        return self.stream(next((names[0] for names in self.coupled if name in names), name))

    def window(self) -> Window:
        """What a dataset must deliver for this stage."""
        return Window.merge(tuple(stream.codec.window() for stream in self.streams))

    @property
    def by_block(self) -> bool:
        """Whether acting goes on block by block, each call after what was observed since the one before."""
        return bool(self.remembered)

    @property
    def remembered(self) -> tuple[str, ...]:
        """The clean views that stay from call to call; they are empty at the first."""
        observed = [leg.stream for leg in self.schedule if isinstance(leg, Commit) and leg.observed]
        return tuple(self.stream(name).group("clean") for name in observed)

    @property
    def looks_back(self) -> int:
        """How many observed steps, the present one among them, acting reads: the blocks of what is observed and never
        predicted, where they are some seconds apart and acting does not go on block by block. Nothing is cached between
        calls: as the window slides, every step gets another place in it (GR-1, arXiv 2312.13139)."""
        return 1 if self._one_chunk else self._observed_steps

    @property
    def glances(self) -> int:
        """How many observed steps, the present one last, are read where all actions are one chunk, which begins at the
        first of them (Diffusion Policy, arXiv 2303.04137). The steps lie a block apart, however far apart the calls
        are; before the first call the oldest one stands for those that there were not."""
        return self._observed_steps if self._one_chunk else 1

    @property
    def _one_chunk(self) -> bool:
        acts = [stream.name for stream in self.streams if stream.carries == "action"]
        return bool(acts) and not any(self.clock.per_block(name) for name in acts)

    @property
    def _observed_steps(self) -> int:
        if self.by_block or not self.clock.block_s:
            return 1
        observed = [stream for stream in self.streams if stream.principal == "now"]
        return max((self.clock.num_blocks(one.name, one.codec.num_tokens("now")) for one in observed), default=1)

    @property
    def held(self) -> tuple[str, ...]:
        """The plans that are kept while acting looks back: they are drawn at its first step, and when as many steps
        lie behind as there are in training all starts anew (Play-LMP, arXiv 1903.01973)."""
        drawn = [leg.stream for leg in self.schedule if isinstance(leg, Draw)]
        return tuple(drawn) if self.looks_back > 1 else ()

    def most_written(self, leg: Decode) -> int:
        """How many tokens a leg writes, if no end mark comes before."""
        return leg.max_tokens or self.stream(leg.stream).codec.num_tokens("noised")

    def outputs(self) -> tuple[str, ...]:
        """The principal groups of the streams that the schedule settles, and the priors that it draws plans from."""
        return tuple(name for leg in self.schedule for name in (*moved(leg), *self.drawn_from(leg)))

    def drawn_from(self, leg: Leg) -> tuple[str, ...]:
        """The prior that a leg draws a plan from, if it does and there is one."""
        objective = self.stream(leg.stream).objective if isinstance(leg, Draw) else None
        return (objective.prior,) if isinstance(objective, KL) and objective.prior else ()

    def owing(self, losses: tuple[str, ...]) -> frozenset[str]:
        """The groups whose answers some streams' losses compare: their own, and those that tell of a plan among them or
        among what they read."""
        principals = {self.stream(name).group(self.stream(name).principal) for name in losses}
        aligned = [one for one in map(self.stream, losses) if isinstance(one.objective, Align)]
        principals |= {stream.group(view.kind) for stream in aligned for view in stream.views}
        layout = self.layout
        read = {layout.groups[name].stream.name for name in layout.needed(principals)} if self.plans else set()
        plans = [plan for name, plan in self.plans if name in read]
        return frozenset(principals.union(*(plan.readers for plan in plans)))

    @property
    def plans(self) -> tuple[tuple[str, KL], ...]:
        """The streams of plans with their objectives."""
        found = [(stream.name, stream.objective) for stream in self.streams]
        return tuple((name, objective) for name, objective in found if isinstance(objective, KL))


@dataclass(frozen=True, kw_only=True)
class Mode:
    """In ``share`` of the samples some streams are given clean, and owe nothing: one network learns to answer several
    questions (Cosmos Policy's world model and value, arXiv 2601.16163)."""

    name: str
    share: float
    given: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of training: which towers (with their streams' codecs) move, and which streams' losses count.

    ``modes``: what shares of the samples are given beyond the observation; the rest is given nothing.
    """

    name: str
    trains: tuple[str, ...]
    losses: tuple[str, ...]
    modes: tuple[Mode, ...] = ()
