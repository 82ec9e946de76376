"""The legs of which inference is made. A schedule is a tuple of legs, run by one interpreter (``interpreter``).

``Denoise`` moves one or more streams from noise towards clean together; ``Predict`` answers in one pass; ``Decode``
writes tokens one by one; ``Read`` runs groups only to keep what they leave behind; ``Commit`` places a stream's
present value in its ``clean`` view, so that later legs read it as if it had been observed; ``Branch`` goes on with
several copies of every sample, and ``Rank`` keeps the best of them; ``Draw`` draws a latent plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.solvers import Skipping, SkippingWhileAlike, Solver


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Some of a leg's streams move by ``v' + scale (v - v')``, ``v'`` being what the network answers when the texts
    ``without`` say ``words`` (classifier-free guidance, Ho and Salimans 2022, arXiv 2207.12598)."""

    streams: tuple[str, ...]
    scale: float
    without: tuple[str, ...] = ("text",)
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """Several streams move together along a solver's levels. What a solver takes from level 1 starts as fresh noise,
    also where an earlier leg had settled it.

    ``skipping``: steps that go on by an earlier velocity and run no network. ``ends``: streams that stop early, with
    the level at which each ends, as DreamZero's video at 0.8 while its actions go to 0 (arXiv 2602.15922; in its code
    ``decouple_inference_noise``). Their levels are the solver's, squeezed. The solver walks in its own level ``u``, in
    which a stream at ``t(u)`` moves by ``dx/du = t'(u) v(x, t)``: what a solver does beyond first order it weighs by
    its own levels. What has stopped early stays as noisy as its level says, also where it is shown.
    """

    streams: tuple[str, ...]
    solver: Solver
    guidance: Guidance | None = None
    skipping: Skipping | SkippingWhileAlike | None = None
    ends: tuple[tuple[str, float], ...] = ()

    @property
    def evaluations(self) -> int:
        """At how many steps the network runs; at most, where velocities decide that on the way."""
        return len(self.skipping.evaluated) if isinstance(self.skipping, Skipping) else self.solver.steps

    def pace(self, stream: str) -> float:
        """By how much a stream's level moves while the solver's moves by 1."""
        start, stop = self.solver.levels()[0].item(), self.solver.stop
        return (start - dict(self.ends)[stream]) / (start - stop) if stream in dict(self.ends) else 1.0

    def level(self, stream: str, level: float) -> float:
        """A stream's own level where the solver is at ``level``."""
        early = dict(self.ends).get(stream)
        return level if early is None else early + self.pace(stream) * (level - self.solver.stop)


@dataclass(frozen=True, kw_only=True)
class Predict:
    """One forward pass; the streams' outputs are their values."""

    streams: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Greedy next-token decoding with cached keys, at most ``max_tokens`` (None: as many as the stream has)."""

    stream: str
    max_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Read:
    """Run groups once and keep their keys, values and hidden states."""

    groups: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Put a stream's present value into its ``clean`` view at level 0 (teacher forcing's act-time counterpart).

    ``observed``: not what was imagined, but what was observed since the last call (of actions, what that call
    answered). The stage then goes on block by block: each call moves one block of the clock, and the clean view stays
    from call to call; what is imagined is put behind it for the rest of a call. How long it stays: ``history``.
    """

    stream: str
    observed: bool = False


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Every sample goes on ``num`` times; what is still noise is drawn anew for each. Branches may be nested."""

    num: int


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Of the outermost branches the one with the highest mean of a value stream goes on (best of N).

    ``towards``: what counts is not a value but how near a stream of features comes to this one. ``settles``: streams
    that are still noise, in whose place the mean of the ``best`` is put, with a part ``momentum`` of the mean before;
    a ``Branch`` after this one draws them from there, not from the standard normal (the cross-entropy method,
    ``crossroads.search``)."""

    stream: str
    towards: str | None = None
    settles: tuple[str, ...] = ()
    best: int = 1
    momentum: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A plan is drawn from what its prior tells; not ``sampled``: the likeliest is taken (ACT acts on zeros)."""

    stream: str
    sampled: bool = True


Leg = Denoise | Predict | Decode | Read | Commit | Branch | Rank | Draw


def moved(leg: Leg) -> tuple[str, ...]:
    """The streams whose values a leg settles."""
    if isinstance(leg, Denoise | Predict):
        return leg.streams
    if isinstance(leg, Decode | Draw):
        return (leg.stream,)
    if isinstance(leg, Rank):
        return leg.settles
    return ()
