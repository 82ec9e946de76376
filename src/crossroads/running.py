"""What a running schedule holds of each group (latent, noise level, states), and how a group comes by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from crossroads.chunking import Kept
from crossroads.codecs.spec import Latent
from crossroads.history import History
from crossroads.net import Steps, StreamNet
from crossroads.search import Spread
from crossroads.towers.group import GroupInput, GroupState
from crossroads.types import Observation


class Running:
    """A schedule under way over one observation.

    ``known``: streams whose clean value is given. They move on the straight path from their noise to it, whatever the
    network answers, so that what reads them reads what training shows. ``promised``: streams whose beginning is kept.
    """

    def __init__(
        self,
        net: StreamNet,
        obs: Observation,
        generator: torch.Generator,
        *,
        caching: bool = True,
        known: Mapping[str, Tensor] = MappingProxyType({}),
        promised: Mapping[str, Kept] = MappingProxyType({}),
        history: History | None = None,
    ) -> None:
        self.net, self.obs, self.generator, self.caching, self.known = net, obs, generator, caching, known
        self.promised, self.history, self.remembered = promised, history, frozenset[str]()
        net.address(obs.robot)
        self.latents: dict[str, Latent] = {}
        self.levels: dict[str, float] = {}
        self.states: dict[str, GroupState] = {}
        self.written: dict[str, Tensor] = {}
        self.branches: list[int] = []
        self.spreads: dict[str, Spread] = {}

    def _principal(self, stream: str) -> str:
        return next(
            name
            for name, group in self.net.layout.groups.items()
            if group.stream.name == stream and group.view.kind == group.stream.principal
        )

    def _prepare(self, name: str) -> None:
        """Give a group its latent: observed now, or pure noise for what has not moved yet."""
        if name in self.latents:
            return
        group = self.net.group(name)
        kind = group.view.kind
        once = self.history.first if self.history and not self._block(name) else self.obs
        if kind in ("now", "prior"):
            self.latents[name], self.levels[name] = (
                self.net.observe(name, self.net.drawn_for(name, once, self.latents)),
                0.0,
            )
            return
        assert kind != "clean", f"group {name} is read before Commit: validate() should have refused the schedule"
        num, *rest = self.net.codec(name).latent_shape(kind)
        block = self._block(name)
        start, num = block or (0, num)
        device = self.obs.state.device
        noise = torch.randn((self.obs.batch_size, num, *rest), generator=self.generator, device=device)
        noise = self.spreads[name].drawn(noise) if name in self.spreads else noise
        num_tokens = num if block else group.stream.codec.num_tokens(kind)  # a row may be answered by several tokens
        valid = torch.ones(len(noise), num_tokens, dtype=torch.bool, device=device)
        first = self.history.first if self.history else self.obs
        beside = self.net.beside(name, self.net.drawn_for(name, first, self.latents), start, num)
        self.latents[name], self.levels[name] = Latent(values=noise, valid=valid, beside=beside), 1.0

    def _input(self, name: str, steps: Steps | None = None) -> GroupInput:
        told = self.net.layout.teller(name) or name
        level = torch.full((self.obs.batch_size, 1), self.levels.get(told, 0.0), device=self.obs.state.device)
        if told == name and (kept := self._kept(name)):
            level = kept.level(level)
        valid = {other: latent.valid for other, latent in self.latents.items()}
        start, _ = self._block(name) or (0, 0)
        heard = {other: torch.full_like(level[:, :1], self.levels[other]) for other in self.net.layout.heard(name)}
        return self.net.embed(name, self.latents[name].shown, level, valid, offset=start, levels=heard, steps=steps)

    def _block(self, name: str) -> tuple[int, int] | None:
        """The first token and the number of tokens of a group that this call is about; None for all of them."""
        num = self.net.layout.per_call(name)
        if not self.remembered or not num:
            return None
        return (self.history.num_blocks if self.history else 0) * num, num

    def _needed(self, names: Iterable[str]) -> frozenset[str]:
        """What some groups read, without what there is nothing of to be remembered yet."""
        return self.net.layout.needed(names) - (self.remembered - set(self.latents))

    def _run_missing(self, names: frozenset[str]) -> None:
        missing = sorted(names - set(self.states))
        for name in sorted(names):
            self._prepare(name)
        if missing:
            inputs, silent = {name: self._input(name) for name in missing}, self.net.layout.silent(missing)
            self.states.update(self.net(inputs, self.states, silent=silent))

    def _sources(self, moving: list[str]) -> list[str]:
        """Cache what stands still; return what must run at every step (the moving groups and all that read them)."""
        layout = self.net.layout
        needed = self._needed(moving)
        for name in sorted(needed):
            self._prepare(name)
        self._forget(moving)
        stable = needed & layout.stable(moving) if self.caching else frozenset[str]()
        if not self.caching:
            self.states.clear()
        self._run_missing(stable)
        return sorted(needed - stable)

    def _forget(self, moving: list[str]) -> None:
        """Drop the states of the moving groups and of every group that reads them, needed in this leg or not."""
        outdated = self.net.layout.outdated(moving)
        for name in frozenset(self.states) - self.net.layout.stable({*moving, *outdated}):
            del self.states[name]
        for name in outdated & set(self.latents):
            del self.latents[name], self.levels[name]

    def _known(self, name: str) -> Tensor | None:
        """The part of a known stream's value that this call is about."""
        known = self.known.get(self.net.group(name).stream.name)
        if known is None:
            return None
        start, num = self._block(name) or (0, known.shape[1])
        return known[:, start : start + num]

    def _kept(self, name: str) -> Kept | None:
        """The promise that a group keeps, if it is noised."""
        group = self.net.group(name)
        return self.promised.get(group.stream.name) if group.view.kind == "noised" else None

    def _keep(self, rows: Tensor) -> None:
        """Go on with these samples, some of them perhaps several times."""
        self.obs = self.obs.rows(rows)
        self.known = {name: value[rows] for name, value in self.known.items()}
        self.promised = {name: kept.rows(rows) for name, kept in self.promised.items()}
        self.written = {name: value[rows] for name, value in self.written.items()}
        self.latents = {name: latent.rows(rows) for name, latent in self.latents.items()}
        self.states = {name: state.rows(rows) for name, state in self.states.items()}
        self.net.address(self.obs.robot)
