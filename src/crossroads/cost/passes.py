"""The passes of which acting is made: which groups a leg runs once, which at every step, what weights that reads.

The walk through a schedule mirrors ``interpreter.Interpreter``: what the edges let it cache is paid once per leg. What
is remembered from call to call is empty at the first call, and that is the one that is walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossroads.codecs.foreseen import FuturePatches
from crossroads.codecs.told_actions import ToldActions
from crossroads.schedule import Branch, Commit, Decode, Denoise, Draw, Leg, Predict, Rank, Read, moved
from crossroads.stage import Stage
from crossroads.streams import Group


@dataclass(frozen=True, kw_only=True)
class LegGroups:
    """One leg: the groups it caches first (``once``), those it then runs at each of its ``steps``, and those that the
    steps read from the cache; ``read_out`` are the running groups whose answer is taken. A step that goes on by
    an earlier velocity runs nothing and does not count; where velocities decide that, all do (an upper bound)."""

    leg: Leg
    once: frozenset[str]
    running: frozenset[str]
    cached: frozenset[str]
    read_out: tuple[str, ...]
    steps: int
    copies: int
    """How many branches of a sample run it."""
    blank_once: frozenset[str] = frozenset()
    blank: frozenset[str] = frozenset()
    blank_read: tuple[str, ...] = ()
    """What guidance runs a second time, under other words: once, at every step, and whose answers it takes."""
    imagined: frozenset[str] = frozenset()
    """The remembered views that hold a block which was imagined in this call."""

    @property
    def words(self) -> str:
        return f"{type(self.leg).__name__}({', '.join(self.read_out or sorted(self.once | self.cached))})"


def legs_of(stage: Stage) -> tuple[LegGroups, ...]:
    """The legs of a stage's schedule that run the network (``Commit`` runs nothing)."""
    layout = stage.layout
    known: frozenset[str] = frozenset()
    settled: set[str] = set()
    found: list[LegGroups] = []
    imagined: frozenset[str] = frozenset()
    copies = 1
    for leg in stage.schedule:
        moving = moved(leg)
        settled |= set(moving)
        if isinstance(leg, Branch):
            copies *= leg.num
            known &= layout.stable([name for name in _moving(stage) if name not in settled])
            continue
        if isinstance(leg, Rank):
            copies = 1
            continue
        if isinstance(leg, Commit) and leg.observed:
            continue
        if isinstance(leg, Commit):
            clean = stage.stream(leg.stream).group("clean")
            known &= layout.stable([clean])
            imagined |= {clean} & set(stage.remembered)
            continue
        if isinstance(leg, Draw):
            known &= layout.stable(moving)
            moving = stage.drawn_from(leg)
            if not moving:
                continue
        needed = layout.needed(leg.groups if isinstance(leg, Read) else moving) - (set(stage.remembered) - imagined)
        drawing = isinstance(leg, Draw)
        known = known & layout.stable({*moving, *layout.outdated(moving)}) if moving and not drawing else known
        before = needed - set(moving) if isinstance(leg, Decode) else needed & layout.stable(() if drawing else moving)
        once = before - known
        known |= once
        running: frozenset[str] = frozenset()
        if isinstance(leg, Decode):
            running = frozenset(moving)
            known |= running
        elif isinstance(leg, Denoise | Predict):
            running = needed - layout.stable(moving)
        steps = stage.most_written(leg) if isinstance(leg, Decode) else 1
        steps = leg.evaluations if isinstance(leg, Denoise) else steps
        cached = needed - running if running else needed - once
        found.append(
            LegGroups(
                leg=leg,
                once=once,
                running=running,
                cached=cached,
                read_out=moving,
                steps=steps,
                copies=copies,
                imagined=imagined,
                **(_guided(stage, leg, running, imagined) if isinstance(leg, Denoise) and leg.guidance else {}),
            )
        )
    return tuple(found)


def _guided(stage: Stage, leg: Denoise, running: frozenset[str], imagined: frozenset[str]) -> dict[str, Any]:
    """What guidance runs again: of what its streams read, all that depends on the words that it says otherwise."""
    assert leg.guidance is not None
    layout = stage.layout
    there = layout.needed(leg.streams) - (set(stage.remembered) - imagined)
    once = there - running - layout.stable(leg.guidance.without)
    return {
        "blank_once": once,
        "blank": layout.needed(leg.guidance.streams) & running,
        "blank_read": leg.guidance.streams,
    }


def _moving(stage: Stage) -> tuple[str, ...]:
    """The principal groups of the learned streams: noise until a leg settles them."""
    return tuple(stream.name for stream in stage.streams if stream.objective is not None)


def observed(stage: Stage) -> frozenset[str]:
    """The groups of now that acting looks at."""
    layout = stage.layout
    ran = frozenset[str]().union(*(leg.once | leg.running for leg in legs_of(stage)))
    return frozenset(name for name in ran if layout.groups[name].view.kind == "now")


def embedding_weights(group: Group, width: int) -> int:
    """Weights of a codec that embedding a group multiplies by; 0 for a table that is only looked up."""
    codec = group.stream.codec
    work = codec.embed_flops(group.view.kind, width)
    if not work or not codec.num_parameters(width):  # one linear map, that of another stream
        return work // (2 * codec.num_tokens(group.view.kind))
    return codec.num_parameters(width) - answer_weights(group, width)


def answer_weights(group: Group, width: int) -> int:
    """Weights of a codec that reading an answer multiplies by: linear maps of the hidden states, or a decoder."""
    codec, kind = group.stream.codec, group.view.kind
    if isinstance(codec, ToldActions):  # all actions of a step are told at once
        return codec.num_parameters(width)
    if isinstance(codec, FuturePatches):
        return codec.decoder.num_parameters(width)
    return codec.read_flops(kind, width) // (2 * codec.num_tokens(kind))
