"""Runs a schedule over one observation; what may be cached meanwhile follows from the edges alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from crossroads.codecs.frame_features import FrameFeatureCodec
from crossroads.codecs.frames import ValueFrameCodec
from crossroads.codecs.spec import Latent
from crossroads.codecs.streaming import EncoderState
from crossroads.diffusion import Ddim, Ddpm
from crossroads.history import History
from crossroads.net import Steps
from crossroads.objectives import Diffusion, Flow, Likelihood, TokenCE
from crossroads.plans import KL
from crossroads.running import Running
from crossroads.schedule import Branch, Commit, Decode, Denoise, Draw, Guidance, Leg, Predict, Rank, Read, moved
from crossroads.search import narrowed, nearness
from crossroads.solvers import Undoing
from crossroads.towers.group import GroupState
from crossroads.types import Observation


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a schedule produced: each moved stream's latent, and the latents of the groups that were observed."""

    streams: Mapping[str, Tensor]
    observed: Mapping[str, Latent]
    state: Tensor
    """The robot's, of the present step."""
    moment: int = 0
    """The number of the present step among those observed, where a policy looks back."""


class Interpreter(Running):
    """Runs a schedule over one observation. What may be cached during a leg follows from the edges alone."""

    blank: Interpreter | None = None
    """The same run under empty words, where a leg is guided."""

    def run(self, legs: tuple[Leg, ...]) -> Settled:
        streams = [leg.stream for leg in legs if isinstance(leg, Commit) and leg.observed]
        self.remembered = frozenset(self.net.group(self._principal(name)).stream.group("clean") for name in streams)
        ways: Mapping[type, Callable[[Any], None]] = {
            **{Denoise: self._denoise, Predict: self._predict, Decode: self._decode, Commit: self._commit},
            **{Read: self._read, Branch: self._branch, Rank: self._rank, Draw: self._draw},
        }
        for leg in legs:
            ways[type(leg)](leg)  # pyright: ignore[reportArgumentType]
        streams = {
            name: self.written[name] if name in self.written else self.latents[self._principal(name)].values
            for leg in legs
            for name in moved(leg)
        }
        observed = {name: latent for name, latent in self.latents.items() if self.net.group(name).view.kind == "now"}
        observed |= {name: self.history.latents[name] for name in self.remembered} if self.history else {}
        return Settled(streams=streams, observed=observed, state=self.obs.state, moment=len(self.obs.before))

    def _denoise(self, leg: Denoise) -> None:
        moving = sorted(self._principal(name) for name in leg.streams)
        for name in moving:
            if leg.solver.start == 1.0 and self.levels.get(name, 1.0) != 1.0:
                del self.latents[name]
        running = self._sources(moving)
        assert leg.solver.start == 1.0 or not set(leg.streams) & set(self.known), "a known stream starts from noise"
        shapes = [self.latents[name].values.shape for name in moving]
        sizes = [shape[1:].numel() for shape in shapes]
        streams = {name: self.net.group(name).stream.name for name in moving}
        paces = {name: leg.pace(stream) for name, stream in streams.items()}

        def place(x: Tensor, level: float) -> None:
            for name, part, shape in zip(moving, x.split(sizes, dim=1), shapes, strict=True):
                kept, values = self._kept(name), part.reshape(shape)
                self.latents[name] = replace(self.latents[name], values=kept.shown(values) if kept else values)
                self.levels[name] = leg.level(streams[name], level)

        steps, steps_blank = Steps(), Steps()
        running_blank: list[str] = []
        if leg.guidance is not None:
            self.blank = self._under_other_words(leg.guidance)
            running_blank = self.blank._sources(moving)

        def velocity(x: Tensor, level: float) -> Tensor:
            place(x, level)
            found = self._velocities(running, moving, steps)
            if self.blank is not None and leg.guidance is not None:
                self.blank.latents |= {name: self.latents[name] for name in moving}
                self.blank.levels |= {name: self.levels[name] for name in moving}
                guided = [self._principal(name) for name in leg.guidance.streams]
                for name, blank in self.blank._velocities(running_blank, guided, steps_blank).items():
                    found[name] = blank + leg.guidance.scale * (found[name] - blank)
            for name in moving:
                if kept := self._kept(name):
                    found[name] = kept.velocity(self.latents[name].values, found[name], self.levels[name])
            if isinstance(leg.solver, Ddim | Ddpm) and leg.solver.process.spread:  # all answers, then all spreads
                halves = [found[name].chunk(2, dim=-1) for name in moving]
                return torch.cat([part[half].flatten(1) for half in range(2) for part in halves], dim=1)
            return torch.cat([paces[name] * found[name].flatten(1) for name in moving], dim=1)

        start = torch.cat([self.latents[name].values.flatten(1) for name in moving], dim=1)
        asked = leg.skipping.over(velocity) if leg.skipping else velocity
        place(leg.solver.solve(start, asked, self.generator), leg.solver.stop)
        if isinstance(leg.solver, Undoing):  # it may have kept a clean value within bounds, or drawn noise
            for name in moving:
                if (known := self._known(name)) is not None:
                    self.latents[name] = replace(self.latents[name], values=known)

    def _under_other_words(self, guidance: Guidance) -> Interpreter:
        """One that has seen and drawn the same, but for what some texts say; what they do not touch is taken over."""
        told = self.obs.told((guidance.words,) * self.obs.batch_size)
        history = self.history.told(told.text) if self.history else None
        other = Interpreter(self.net, told, self.generator, caching=self.caching, known=self.known, history=history)
        other.promised = self.promised
        other.remembered = self.remembered
        texts = {self._principal(name) for name in guidance.without}
        other.latents = {name: latent for name, latent in self.latents.items() if name not in texts}
        other.levels = {name: level for name, level in self.levels.items() if name not in texts}
        untouched = self.net.layout.stable(texts)
        other.states = {name: state for name, state in self.states.items() if name in untouched}
        other._recall()
        return other

    def _velocities(self, running: list[str], moving: list[str], steps: Steps) -> dict[str, Tensor]:
        """What the network answers for each of some groups."""
        needed = [name for name in running if name in self._needed(moving)]
        inputs = {name: self._input(name, steps) for name in needed}
        with nullcontext() if torch.is_grad_enabled() else torch.inference_mode():  # nothing of a step is kept
            states = self.net(inputs, self.states, steps)
            return {name: self._velocity(name, states[name]) for name in moving}

    def _velocity(self, name: str, state: GroupState) -> Tensor:
        """What the network answers; for a known stream, what leads straight to its value."""
        known = self._known(name)
        if known is None:
            return self.net.codec(name).read(state.hidden)
        objective = self.net.group(name).stream.objective
        assert isinstance(objective, Flow | Diffusion)
        x, level = self.latents[name].values, self.levels[name]
        return objective.towards(x, known, x.new_tensor(level))

    def _predict(self, leg: Predict) -> None:
        moving = sorted(self._principal(name) for name in leg.streams)
        for name in moving:
            self._prepare(name)
            self.latents[name] = replace(self.latents[name], values=torch.zeros_like(self.latents[name].values))
            self.levels[name] = 0.0
        running = self._sources(moving)
        states = self.net({name: self._input(name) for name in running}, self.states)
        for name in moving:
            codec, known = self.net.codec(name), self.known.get(self.net.group(name).stream.name)
            values = self._answer(name, states[name]) if known is None else known
            self.latents[name] = replace(self.latents[name], values=values)
            if isinstance(codec, FrameFeatureCodec):
                self.latents[name] = codec.rolled(self.latents[name])

    def _answer(self, name: str, state: GroupState) -> Tensor:
        """What the network answers; numbers of which it tells a distribution are drawn."""
        told, objective = self.net.codec(name).read(state.hidden), self.net.group(name).stream.objective
        return objective.law.drawn(told, self.generator) if isinstance(objective, Likelihood) else told

    def _read(self, leg: Read) -> None:
        self._run_missing(self._needed(leg.groups))

    def _draw(self, leg: Draw) -> None:
        """A plan from its prior; without one all numbers that tell of it are zero. A known plan is held."""
        name = self._principal(leg.stream)
        plan = self.net.group(name).stream.objective
        assert isinstance(plan, KL)
        self._prepare(name)
        self._forget([name])
        if (held := self._known(name)) is not None:
            self.latents[name], self.levels[name] = replace(self.latents[name], values=held), 0.0
            return
        noise = self.latents[name].values[:, 0]
        told = noise.new_zeros(len(noise), plan.family.num_told)
        if plan.prior is not None:
            self._run_missing(self._needed([plan.prior]))
            told = self.net.codec(plan.prior).read(self.states[plan.prior].hidden)[:, 0]
        values = plan.family.drawn(told, noise) if leg.sampled else plan.family.likeliest(told)
        self.latents[name], self.levels[name] = replace(self.latents[name], values=values.unsqueeze(1)), 0.0

    def _decode(self, leg: Decode) -> None:
        """Greedy; a sample that has written the end mark writes end marks from then on, and nobody reads those.

        What later legs read is what training shows them: the start token, then what was written, but for the last.
        """
        name = self._principal(leg.stream)
        self._run_missing(self.net.layout.needed([name]) - {name})
        self._forget([name])
        objective = self.net.group(name).stream.objective
        assert isinstance(objective, TokenCE)
        batch, device = self.obs.batch_size, self.obs.state.device
        read = torch.full((batch, 1), objective.start_token, device=device)
        valid = torch.ones(batch, 1, dtype=torch.bool, device=device)
        written: list[Tensor] = []
        most = leg.max_tokens or self.net.group(name).stream.codec.num_tokens("noised")
        self.levels[name] = 0.0
        while True:
            self.latents[name] = Latent(values=read, valid=valid)
            scores = self._scores(name)
            token = scores.argmax(dim=-1).masked_fill(~valid[:, -1:], objective.end_token)
            written.append(token)
            going_on = valid[:, -1:] & (token != objective.end_token)
            if len(written) == most or not bool(going_on.any()):
                break
            read, valid = torch.cat([read, token], dim=1), torch.cat([valid, going_on], dim=1)
        self.written[leg.stream] = torch.cat(written, dim=1)

    def _scores(self, name: str) -> Tensor:
        """The scores of a growing group's next token: its last token alone against cached keys, or all afresh."""
        if not self.caching:
            self.states.clear()
            self._run_missing(self.net.layout.needed([name]))
            return self.net.codec(name).read(self.states[name].hidden[:, -1:])
        values = self.latents[name].values
        valid = {other: latent.valid for other, latent in self.latents.items()}
        level = torch.zeros(len(values), 1, device=values.device)
        tokens = self.net.embed(name, values[:, -1:], level, valid, offset=values.shape[1] - 1)
        self.states[name] = self.net({name: tokens}, self.states)[name]
        return self.net.codec(name).read(self.states[name].hidden[:, -1:])

    def _commit(self, leg: Commit) -> None:
        stream = self.net.group(self._principal(leg.stream)).stream
        clean = stream.group("clean")
        if leg.observed:
            self._recall()
            return
        imagined, self.levels[clean] = self.latents[self._principal(leg.stream)], 0.0
        if clean not in self.remembered:
            self.latents[clean] = imagined
            self._forget([clean])
            return
        self.latents[clean] = _behind(self.latents.get(clean), imagined)
        self._grow([clean])

    def _recall(self) -> None:
        """Take up what was observed before this call, unless it is there; run what has no keys and values yet."""
        if self.history is None:
            return
        self.latents = {**self.history.latents, **self.latents}
        self.levels = {**dict.fromkeys(self.history.latents, 0.0), **self.levels}
        if self.caching:
            self.states = {**self.history.states, **self.states}
            self._grow(sorted(self.remembered))

    def _grow(self, names: list[str]) -> None:
        """Run the tokens of clean views that have no keys and values yet, all in one pass."""
        if not self.caching:
            return
        self._run_missing(self._needed(names) - self.remembered)
        valid = {name: latent.valid for name, latent in self.latents.items()}
        level = torch.zeros(self.obs.batch_size, 1, device=self.obs.state.device)
        done = {name: self.states[name].valid.shape[1] if name in self.states else 0 for name in names}
        new = {
            name: self.net.embed(name, self.latents[name].shown[:, done[name] :], level, valid, offset=done[name])
            for name in names
            if valid[name].shape[1] > done[name]
        }
        if new:
            self.states |= self.net(new, self.states, silent=self.net.layout.silent(new))

    def behind(self, start: Observation) -> History | None:
        """What the next call remembers of this one; None where nothing is remembered."""
        if not self.remembered:
            return None
        kept = {self.net.group(name).stream.group("now") for name in self.remembered}
        old = self.history
        past = {} if old is None else {name: old.latents[name] for name in self.remembered}
        done = {name: latent.valid.shape[1] for name, latent in past.items()}
        for name in self.remembered:
            stream = self.net.group(name).stream
            if stream.carries == "action":  # what is answered is taken to be what is done
                past[name] = _behind(past.get(name), self.latents[self._principal(stream.name)])

        def observed(states: Mapping[str, GroupState]) -> dict[str, GroupState]:
            cut = {name: states[name].first(num) for name, num in done.items() if name in states}
            return {name: state for name, state in states.items() if name in kept} | cut

        return History(
            starts=(*(() if old is None else old.starts), replace(start, passed={})),
            num_blocks=0 if old is None else old.num_blocks,
            frames={} if old is None else old.frames,
            encoder=EncoderState() if old is None else old.encoder,
            latents={name: latent for name, latent in self.latents.items() if name in kept} | past,
            states=observed(self.states),
            blank=observed(self.blank.states) if self.blank else {},
        )

    def _branch(self, leg: Branch) -> None:
        num = self.obs.batch_size
        for name, group in self.net.layout.groups.items():
            awaited = any(self.levels.get(source) != 0.0 for source in self.net.layout.shown_to([name]))
            if group.view.kind == "now" and not awaited:  # what is observed is encoded once, not once per branch
                self._prepare(name)
        for name in [name for name, level in self.levels.items() if level == 1.0 or name in self.spreads]:
            del self.latents[name], self.levels[name]
            self._forget([name])
        self._keep(torch.arange(num, device=self.obs.state.device).repeat_interleave(leg.num))
        self.branches.append(leg.num)

    def _rank(self, leg: Rank) -> None:
        value = self._worth(leg).nan_to_num(nan=-math.inf)
        value = value.reshape(-1, self.branches[0], math.prod(self.branches[1:])).mean(dim=2)
        inner = math.prod(self.branches[1:])
        first = torch.arange(len(value), device=value.device) * math.prod(self.branches)
        chosen = first[:, None] + value.topk(leg.best, dim=1).indices * inner
        settled = [self._principal(name) for name in leg.settles]
        for name in settled:
            best = self.latents[name].values[chosen]
            self.spreads[name] = narrowed(best, self.spreads.get(name), leg.momentum)
        self._keep(chosen[:, 0])
        for name in settled:
            self.latents[name] = replace(self.latents[name], values=self.spreads[name].mean)
            self.levels[name] = 0.0
            self._forget([name])
        self.branches.clear()

    def _worth(self, leg: Rank) -> Tensor:
        """What each branch is worth."""
        found = self.latents[self._principal(leg.stream)].values
        if leg.towards is not None:
            return nearness(found, self.latents[self._principal(leg.towards)].values)
        codec = self.net.own_codec(leg.stream)
        assert isinstance(codec, ValueFrameCodec)
        return codec.decode(found)


def _behind(past: Latent | None, new: Latent) -> Latent:
    """What comes behind what was there, if anything was."""
    return new if past is None else past.then(new)
