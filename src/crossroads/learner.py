"""How any one-stage recipe learns: the groups that a phase needs, prepared and run once, and what its losses are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from crossroads.codecs.spec import HiddenInTraining, Latent, NeverTrained
from crossroads.net import StreamNet
from crossroads.noise import corrupt, per_token
from crossroads.objectives import Align, Flow
from crossroads.plans import KL
from crossroads.recipe import Recipe
from crossroads.space import ActionSpace
from crossroads.stage import Phase
from crossroads.streams import Corrupted, Group, Stream
from crossroads.towers.group import GroupInput, GroupState
from crossroads.types import Batch, Losses


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A training batch as the network sees it: latents and levels per group, and what each loss compares with."""

    latents: Mapping[str, Latent]
    levels: Mapping[str, Tensor]
    owed: Mapping[str, Corrupted]
    given: Mapping[str, Bool[Tensor, " b"]]
    """By stream, the samples that are shown it clean and owe nothing for it."""


def _spared(owed: Corrupted, clean: Tensor, given: Bool[Tensor, " b"]) -> Corrupted:
    """What is owed, but for the samples that are given the clean latent at level 0."""
    shape = (-1, *[1] * (clean.ndim - 1))
    latent = torch.where(given.reshape(shape), clean, owed.latent)
    return replace(owed, latent=latent, level=owed.level.masked_fill(given[:, None], 0.0))


class Learner(nn.Module):
    """A recipe's network in training. ``space`` gives units, limits and the control rate of the robot."""

    def __init__(self, recipe: Recipe, net: StreamNet, space: ActionSpace) -> None:
        super().__init__()
        self.recipe, self.net, self.space = recipe, net, space
        self.phase = recipe.phases[-1]
        self.enter(self.phase)

    def enter(self, phase: Phase) -> None:
        """Start a phase: exactly its towers and their codecs take gradients; everything else takes none."""
        self.phase = phase
        trained = set(self.net.weight_names(phase.trains).values())
        told = tuple(f".modulators.{tower}__" for tower in phase.trains)  # a modulator belongs to the tower it tells
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name in trained or any(part in name for part in told))
        for module in self.net.modules():
            if isinstance(module, NeverTrained):
                module.requires_grad_(False)

    def groups(self) -> frozenset[str]:
        """Every group that the losses of the present phase need."""
        stage = self.recipe.stage
        return self.net.layout.needed(stage.owing(self.phase.losses))

    def fixed_groups(self) -> frozenset[str]:
        """The needed groups that no trained weight touches: their states may be computed once and cached."""
        layout = self.net.layout
        moving = [name for name, group in layout.groups.items() if group.tower in self.phase.trains]
        return layout.stable(moving) & self.groups()

    def prepare(
        self,
        batch: Batch,
        names: frozenset[str],
        generator: torch.Generator,
        states: Mapping[str, GroupState] = MappingProxyType({}),
    ) -> Prepared:
        """Latents, levels and targets of some groups; random draws happen in sorted order of groups. ``states``: of
        groups that have been run before."""
        latents: dict[str, Latent] = {}
        levels: dict[str, Tensor] = {}
        owed: dict[str, Corrupted] = {}
        targets: dict[str, Latent] = {}
        drawn: dict[str, Tensor] = {}
        self.net.address(batch.obs.robot)
        given = self._given(batch.batch_size, generator)
        whole = replace(batch, obs=batch.obs.foreseeing(batch.future, self.recipe.window.future_s))
        for name in sorted(names):
            group = self.net.group(name)
            obs = self.net.recorded_for(name, whole, generator)
            if group.view.kind == "now":
                later = group.stream.principal == "now" and self.net.layout.clock.per_block(group.stream.name)
                ahead = replace(batch, obs=obs)
                latents[name] = self.net.target(name, ahead) if later else self.net.observe(name, obs, states)
                levels[name] = torch.zeros(batch.batch_size, 1, device=batch.weight.device)
                if isinstance(codec := self.net.codec(name), HiddenInTraining):
                    latents[name] = codec.masked(latents[name], generator)
                continue
            if group.view.kind in ("prior", "posterior"):
                latents[name] = (
                    self.net.observe(name, obs) if group.view.kind == "prior" else self.net.target(name, whole)
                )
                levels[name] = torch.zeros(batch.batch_size, 1, device=batch.weight.device)
                continue
            stream = group.stream.name
            if stream not in targets:
                shown = self.net.layout.shown_to([name])
                targets[stream] = self.net.target(name, replace(batch, obs=obs) if shown else batch)
            clean = targets[stream]
            if group.view.kind == "clean":
                latents[name], levels[name] = self._teacher(group, clean, generator)
                continue
            assert group.stream.objective is not None
            level = self._levels(group.stream, clean, drawn, generator)
            owed[name] = group.stream.objective.corrupt(clean.values, level, generator)
            if stream in given:
                owed[name] = _spared(owed[name], clean.values, given[stream])
            latents[name] = replace(clean, values=owed[name].latent)
            levels[name] = owed[name].level
        told = {name: self.net.layout.teller(name) for name in latents}
        levels |= {name: levels[teller] for name, teller in told.items() if teller in levels}
        return Prepared(latents=latents, levels=levels, owed=owed, given=given)

    def _levels(self, stream: Stream, clean: Latent, drawn: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """A level per sample and block of the clock; coupled streams share one draw."""
        leader = self.recipe.stage.leader(stream.name)
        if leader.name not in drawn:
            assert leader.objective is not None
            num = self.net.layout.clock.num_levels(stream.name, clean.valid.shape[1])
            drawn[leader.name] = leader.objective.draw(len(clean.values), num, generator)
        return drawn[leader.name]

    def _given(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Which samples are given each stream clean, by the modes of the present phase."""
        if not self.phase.modes:
            return {}
        drawn = torch.rand(batch, generator=generator, device=generator.device)
        given: dict[str, Tensor] = {}
        start = 0.0
        for mode in self.phase.modes:
            here = (drawn >= start) & (drawn < start + mode.share)
            start += mode.share
            for name in mode.given:
                given[name] = given.get(name, torch.zeros_like(here)) | here
        return given

    def _teacher(self, group: Group, clean: Latent, generator: torch.Generator) -> tuple[Latent, Tensor]:
        """A clean view, noised all the same in a share of the samples (and told so)."""
        batch, num, *rest = clean.values.shape
        if not group.view.noised_share:
            return clean, torch.zeros(batch, 1, device=clean.values.device)
        assert isinstance(group.stream.objective, Flow)
        levels = group.view.levels or group.stream.objective.levels
        num_levels = self.net.layout.clock.num_levels(group.stream.name, num)
        drawn = levels.draw(batch * num_levels, generator).reshape(batch, num_levels)
        chosen = torch.rand(batch, 1, generator=generator, device=drawn.device) < group.view.noised_share
        level = drawn * chosen
        noise = torch.randn(clean.values.shape, generator=generator, device=drawn.device)
        spread = per_token(level, num).reshape(batch, -1, *[1] * len(rest))
        return replace(clean, values=corrupt(clean.values, noise, spread)), level

    def inputs(
        self,
        prepared: Prepared,
        names: frozenset[str],
        valid: Mapping[str, Tensor],
        states: Mapping[str, GroupState] = MappingProxyType({}),
    ) -> dict[str, GroupInput]:
        """The named groups embedded and placed; ``valid`` adds the validity of groups that are cached, and ``states``
        the levels that they had."""
        had = {name: state.level for name, state in states.items() if state.level is not None}
        known = {**valid, **{name: latent.valid for name, latent in prepared.latents.items()}}
        return {
            name: self.net.embed(
                name, prepared.latents[name].shown, prepared.levels[name], known, levels={**had, **prepared.levels}
            )
            for name in sorted(names)
        }

    @torch.no_grad()
    def features(
        self, batch: Batch, *, generator: torch.Generator, known: Mapping[str, GroupState] | None = None
    ) -> dict[str, GroupState]:
        """The states of the groups that the present phase never changes; those in ``known`` are read, not run."""
        states = dict(known or {})
        names = self.fixed_groups() - set(states)
        valid = {name: state.valid for name, state in states.items()}
        return {
            **states,
            **self.net(self.inputs(self.prepare(batch, names, generator, states), names, valid, states), states),
        }

    def loss(
        self, batch: Batch, *, generator: torch.Generator, cached: Mapping[str, GroupState] | None = None
    ) -> Losses:
        """Per-sample losses of the present phase by stream; groups in ``cached`` are read instead of run."""
        states = dict(cached or {})
        return self.losses(self.prepare(batch, self.groups() - set(states), generator, states), states)

    def losses(self, prepared: Prepared, states: Mapping[str, GroupState]) -> Losses:
        """The losses of a prepared batch; groups in ``states`` are read instead of run."""
        prepared, states = self.drawn(prepared, states)
        valid = {name: state.valid for name, state in states.items()}
        rest = frozenset(prepared.latents) - set(states)
        return self.losses_of(prepared, {**states, **self.net(self.inputs(prepared, rest, valid, states), states)})

    def drawn(self, prepared: Prepared, states: Mapping[str, GroupState]) -> tuple[Prepared, Mapping[str, GroupState]]:
        """The batch with its plans drawn from their posteriors, and the states with those of what was run for that."""
        for name in sorted(prepared.owed):
            plan = self.net.group(name).stream.objective
            if not isinstance(plan, KL):
                continue
            valid = {group: state.valid for group, state in states.items()}
            missing = self.net.layout.needed(plan.readers) - set(states)
            states = {**states, **self.net(self.inputs(prepared, missing, valid, states), states)}
            told = self.net.codec(plan.posterior).read(states[plan.posterior].hidden)
            noise = prepared.latents[name]
            drawn = plan.family.drawn(told[:, 0], noise.values[:, 0])
            prepared = replace(
                prepared,
                latents={**prepared.latents, name: replace(noise, values=drawn.unsqueeze(1))},
                owed={**prepared.owed, name: replace(prepared.owed[name], target=told)},
            )
        return prepared, states

    def losses_of(self, prepared: Prepared, states: Mapping[str, GroupState]) -> Losses:
        """What the present phase's streams owe, given the states that the network left."""
        terms = {}
        for name in sorted(prepared.owed):
            stream = self.net.group(name).stream
            if stream.name not in self.phase.losses:
                continue
            assert stream.objective is not None
            answer = self._answer(name, prepared, states)
            loss = stream.objective.loss(answer, prepared.owed[name], prepared.latents[name].valid)
            if stream.name in prepared.given:
                loss = loss * ~prepared.given[stream.name]
            terms[stream.name] = stream.objective.weight * loss
        return Losses(terms={**terms, **self._apart(states)})

    def _apart(self, states: Mapping[str, GroupState]) -> dict[str, Tensor]:
        """How far the views of each aligned stream are apart."""
        found = {}
        for stream in self.recipe.stage.streams:
            aligned = stream.objective
            if isinstance(aligned, Align) and stream.name in self.phase.losses:
                views = [states[stream.group(kind)] for kind in ("prior", "posterior")]
                prior, posterior = (torch.stack([view.taps[at] for at in aligned.layers], dim=2) for view in views)
                owed = Corrupted(latent=prior, level=torch.zeros(len(prior), 1), target=posterior)
                found[stream.name] = aligned.weight * aligned.loss(prior, owed, views[0].valid)
        return found

    def _answer(self, name: str, prepared: Prepared, states: Mapping[str, GroupState]) -> Tensor:
        """What the network answers for a group; of a plan, what its prior tells (zeros, if it has none)."""
        plan = self.net.group(name).stream.objective
        if isinstance(plan, KL) and plan.prior is None:
            return torch.zeros_like(prepared.owed[name].target)
        group = plan.prior if isinstance(plan, KL) and plan.prior else name
        return self.net.codec(group).read(states[group].hidden)
