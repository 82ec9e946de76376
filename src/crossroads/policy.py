"""Policies: what is trained by a loss and asked for actions. Memory is a value, passed in and out.

:class:`StreamPolicy` is the policy of any one-stage recipe: it learns as a :class:`Learner`, and runs the recipe's
schedule to act.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from crossroads.chunking import Given, Kept, Promised
from crossroads.codecs.action_queries import ActionQueryCodec
from crossroads.codecs.action_tokens import ActionCodec
from crossroads.codecs.chunk_token import ChunkCodec
from crossroads.codecs.discrete_actions import DiscreteActionCodec
from crossroads.codecs.frame_latents import FrameLatentCodec
from crossroads.codecs.frames import ActionFrameCodec
from crossroads.codecs.held_actions import HeldActionCodec
from crossroads.codecs.latents import LatentEnds
from crossroads.codecs.slices import SliceCodec
from crossroads.codecs.told_actions import ToldActionCodec
from crossroads.errors import InputError
from crossroads.history import History, continued, looking_back
from crossroads.interpreter import Interpreter, Settled
from crossroads.learner import Learner
from crossroads.objectives import Flow
from crossroads.schedule import Decode
from crossroads.types import Actions, Observation

ACTS = (
    ActionCodec,
    ActionFrameCodec,
    ActionQueryCodec,
    ChunkCodec,
    DiscreteActionCodec,
    HeldActionCodec,
    SliceCodec,
    ToldActionCodec,
)
"""What turns a settled latent into actions in physical units."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a policy carries from one call to the next, of the robots that it is asked about together. Few policies have
    a ``history``."""

    num_chunks: int = 0
    history: History | None = None
    seen: tuple[Observation, ...] = ()
    """What was observed at the calls so far, as far as a policy looks back."""
    held: Mapping[str, Tensor] = field(default_factory=dict)
    """The plans that were drawn at the first of them (``Stage.held``)."""

    def rows(self, rows: Tensor) -> Memory:
        """What is remembered of some of the robots: the others are not asked about any more."""
        history = None if self.history is None else self.history.rows(rows)
        held = {name: value[rows] for name, value in self.held.items()}
        return replace(self, history=history, seen=tuple(earlier.rows(rows) for earlier in self.seen), held=held)


class Policy(Protocol):
    """Anything that acts on observations."""

    @property
    def passed_s(self) -> tuple[float, ...]:
        """When it looks between two calls, in seconds after the first of them, rising; the last time is that of the
        next call, which is given these frames (``Observation.passed``). Empty for a policy that remembers nothing."""
        ...

    @property
    def before_s(self) -> tuple[float, ...]:
        """How long before each of its calls it looks as well, in seconds, the longest first; it is given what was
        observed then (``Observation.before``), as far as that is known. Empty for most policies."""
        ...

    def start(self, batch_size: int) -> Memory: ...

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        """The next chunk; ``show`` decodes what was imagined into frames too (acting needs the latents alone)."""
        ...


class StreamPolicy(Learner):
    """The policy of a recipe: what it learned, and its schedule, run to act."""

    @property
    def passed_s(self) -> tuple[float, ...]:
        """The times of the frames of one block, where acting goes on block by block."""
        stage = self.recipe.stage
        if stage.looks_back > 1:
            return (stage.clock.block_s,)
        return self.recipe.chunk.future_s if stage.by_block else ()

    @property
    def before_s(self) -> tuple[float, ...]:
        """A block of the clock and its multiples, where acting glances back."""
        stage = self.recipe.stage
        return tuple(round(stage.clock.block_s * back, 4) for back in reversed(range(1, stage.glances)))

    def start(self, batch_size: int) -> Memory:
        return Memory()

    def settle(
        self,
        obs: Observation,
        *,
        generator: torch.Generator,
        caching: bool = True,
        known: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Settled:
        """Run the schedule; latents of everything it moved. ``known`` streams are led to the value given."""
        return self.settle_on(obs, Memory(), generator=generator, caching=caching, known=known)[0]

    @torch.no_grad()
    def settle_on(
        self,
        obs: Observation,
        memory: Memory,
        *,
        generator: torch.Generator,
        caching: bool = True,
        known: Mapping[str, Tensor] = MappingProxyType({}),
        promised: Promised | None = None,
    ) -> tuple[Settled, Memory]:
        """The same with what lies behind, for a policy that remembers; and what is remembered then. ``promised``: what
        the chunk before said of the steps that this one is about."""
        stage = self.recipe.stage
        kept = {} if promised is None else self._kept(promised)
        history = None
        if stage.by_block:
            stream = self.net.group(stage.remembered[0]).stream
            history = continued(memory.history, obs, stream, self.net)
        obs = looking_back(obs, memory.seen, stage.looks_back, anew=bool(stage.held))
        known = {**(memory.held if obs.before else {}), **known}
        run = Interpreter(self.net, obs, generator, caching=caching, known=known, promised=kept, history=history)
        settled = run.run(stage.schedule)
        seen = (*obs.before, replace(obs, passed={}, before=())) if stage.looks_back > 1 else ()
        held = {name: settled.streams[name] for name in stage.held}
        return settled, Memory(num_chunks=memory.num_chunks + 1, history=run.behind(obs), seen=seen, held=held)

    def _kept(self, promised: Promised) -> dict[str, Kept]:
        """A promise in the units of the stream of actions.

        Raises:
            InputError: the actions are no flow over a chunk, or were trained without as many given steps.
        """
        for stream in self.recipe.stage.streams:
            codec = self.net.own_codec(stream.name)
            if not isinstance(codec, ActionCodec) or not isinstance(stream.objective, Flow):
                continue
            most = len(stream.objective.delays) - 1
            if isinstance(promised.keep, Given) and promised.delay > max(most, 0):
                raise InputError(
                    where=f"recipe {self.recipe.name!r}, promised actions",
                    expected=f"a delay of at most {max(most, 0)} steps, as training gave them",
                    got=str(promised.delay),
                    do="Train with Flow.delays as long as this, or keep the promise by Guided.",
                )
            values = codec.normaliser.normalise(promised.actions)
            return {stream.name: Kept.of(promised, values, self.recipe.chunk.num_actions)}
        raise InputError(
            where=f"recipe {self.recipe.name!r}, promised actions",
            expected="a stream of actions, token by token, with a Flow objective",
            got="none",
            do="Act without a promise.",
        )

    def act(
        self,
        obs: Observation,
        memory: Memory,
        *,
        generator: torch.Generator,
        show: bool = False,
        promised: Promised | None = None,
    ) -> tuple[Actions, Memory]:
        """A chunk of actions in physical units within the robot's limits; ``show`` adds the frames imagined for it, and
        ``promised`` makes it go on from the chunk that is still being executed (real-time chunking)."""
        settled, memory = self.settle_on(obs, memory, generator=generator, promised=promised)
        imagined = self._frames(settled) if show else {}
        chunk = Actions(values=self.actions_of(settled), control_hz=self.space.control_hz, imagined=imagined)
        return chunk, memory

    def actions_of(self, settled: Settled) -> Tensor:
        """The settled action stream in physical units within the robot's limits, ``b n a``."""
        for name, latent in settled.streams.items():
            codec = self.net.own_codec(name)
            if isinstance(codec, ACTS):
                chunk, num = codec.decode(latent), self.recipe.chunk.num_actions
                if self.recipe.stage.looks_back > 1:  # those of the present step
                    chunk = chunk[:, settled.moment * num : (settled.moment + 1) * num]
                if self.recipe.stage.glances > 1:  # those that begin now
                    chunk = chunk[:, chunk.shape[1] - num :]
                if isinstance(codec, ToldActionCodec):
                    chunk = codec.in_world(chunk, settled.state)
                return self.space.clamp(chunk)
        raise AssertionError(f"recipe {self.recipe.name} settles no action")

    def imagined_streams(self) -> tuple[str, ...]:
        """The streams of video that the schedule settles."""
        moved_streams = dict.fromkeys(self.recipe.stage.outputs())
        return tuple(name for name in moved_streams if self._imagined(name))

    def _imagined(self, name: str) -> LatentEnds | FrameLatentCodec | None:
        """The codec of a stream of video; none of one that is drawn only so that another may refine it."""
        codec = self.net.own_codec(name)
        if isinstance(codec, FrameLatentCodec):
            return codec if codec.spec.every == 1 else None
        return codec if isinstance(codec, LatentEnds) else None

    def answer(self, obs: Observation, *, generator: torch.Generator) -> tuple[str, ...]:
        """What a language recipe writes about an observation."""
        leg = next(leg for leg in self.recipe.stage.schedule if isinstance(leg, Decode))
        codec = self.net.own_codec(leg.stream)
        return codec.decode(self.settle(obs, generator=generator).streams[leg.stream])  # pyright: ignore

    def imagine(self, obs: Observation, *, generator: torch.Generator) -> dict[str, Tensor]:
        """The future frames that a recipe with a video stream expects, by camera."""
        return self._frames(self.settle(obs, generator=generator))

    @torch.no_grad()
    def _frames(self, settled: Settled) -> dict[str, Tensor]:
        """The settled video stream as frames by camera; empty when the schedule moves none."""
        for name, latent in settled.streams.items():
            if codec := self._imagined(name):
                stream = self.recipe.stage.stream(name)
                before = [settled.observed[g] for g in map(stream.group, ("now", "clean")) if g in settled.observed]
                return codec.shown(latent, [found.values for found in before])
        return {}
