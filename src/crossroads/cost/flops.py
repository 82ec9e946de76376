"""Parameters and FLOPs of a recipe from its specs alone: no weights, no device, instant at any size.

A multiply and an add count as two; what is counted is matrix products, attention products and convolutions (what
``torch.utils.flop_counter`` counts), one sample. Texts count at their padded length unless ``tokens`` says otherwise.
Which groups run when a policy acts is in ``passes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from crossroads.codecs.frame_latents import FrameLatents
from crossroads.codecs.handed import HandedStates
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.maps import FeatureMaps
from crossroads.codecs.picture_vectors import PictureVectors
from crossroads.codecs.slots import CameraSlots
from crossroads.codecs.stacked_latents import StackedLatents
from crossroads.cost.amounts import ActFlops, Flops, LegFlops, Parameters, SampleFlops
from crossroads.cost.passes import LegGroups, legs_of, observed
from crossroads.errors import InputError, nearest
from crossroads.layout import Layout
from crossroads.objectives import Diffusion, Flow
from crossroads.recipe import Recipe
from crossroads.schedule import Decode, moved
from crossroads.stage import Phase, Stage
from crossroads.streams import Edge, Group, linear_flops, linear_parameters
from crossroads.towers.classic import Classic
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.dit import Dit
from crossroads.towers.forward import ForwardTower, read_tokens, read_width
from crossroads.towers.groot import GrootHead
from crossroads.towers.llama import SmolExpert
from crossroads.towers.molmo import MolmoExpert
from crossroads.towers.spec import TowerSpec


def parameters(recipe: Recipe) -> Parameters:
    """Weights of a recipe, by part and by phase."""
    stage = recipe.stage
    specs = {tower.name: tower.spec for tower in stage.towers}
    parts: dict[str, int] = {}
    owner: dict[str, str] = {}
    for name, spec in specs.items():
        parts[f"towers.{name}"], owner[f"towers.{name}"] = spec.num_parameters(), name
    for stream in stage.streams:
        if stream.shares is None:
            part = f"codecs.{stream.name}"
            parts[part], owner[part] = stream.codec.num_parameters(specs[stream.tower].width), stream.tower
        codec = stream.codec
        if isinstance(codec, VideoLatents | CameraSlots | StackedLatents | FrameLatents) and stream.shares is None:
            parts[f"autoencoders.{stream.name}"] = codec.autoencoder.num_parameters()
    for name in specs:
        if told := Work(stage=stage).modulators(name):
            part = f"modulators.{name}"
            parts[part], owner[part] = told, name
    trained = {
        phase.name: sum(num for part, num in parts.items() if owner.get(part) in phase.trains)
        for phase in recipe.phases
    }
    return Parameters(parts=parts, trained=trained)


def flops(recipe: Recipe, *, tokens: Mapping[str, int] | None = None) -> Flops:
    """FLOPs of a recipe. ``tokens``: how many tokens a stream (a text) really has, by name.

    Backward is twice the forward of what is trained, once that of frozen parts which gradients pass through, nothing
    for the rest. The few products whose input is raw data need no input gradient; they are counted all the same
    (under 1 % of any recipe, ``tests/cost/test_flops.py``).
    """
    names = [stream.name for stream in recipe.stage.streams]
    for name in tokens or {}:
        if name not in names:
            raise InputError(where="flops, tokens", expected="a stream", got=repr(name), do=nearest(name, names))
    work = Work(stage=recipe.stage, tokens=tokens or {})
    return Flops(
        act=_act(recipe, work),
        train={phase.name: _train(recipe, phase, work, cached=False) for phase in recipe.phases},
        train_cached={phase.name: _train(recipe, phase, work, cached=True) for phase in recipe.phases},
    )


@dataclass(frozen=True, kw_only=True)
class Work:
    """The forward work of running some groups of a stage. ``training``: each block of a noised group has a level.
    ``imagined``: the clean views that hold what a first call, which remembers nothing, has imagined."""

    stage: Stage
    tokens: Mapping[str, int] = field(default_factory=dict)
    training: bool = False
    imagined: frozenset[str] = frozenset()

    @cached_property
    def layout(self) -> Layout:
        return self.stage.layout

    @cached_property
    def specs(self) -> Mapping[str, TowerSpec]:
        return {tower.name: tower.spec for tower in self.stage.towers}

    @cached_property
    def _written(self) -> Mapping[str, int]:
        """The most tokens that acting writes of a stream, which what comes after may read."""
        return {leg.stream: self.stage.most_written(leg) for leg in self.stage.schedule if isinstance(leg, Decode)}

    def beside(self, imagined: frozenset[str]) -> Work:
        """The same where these views hold what was imagined."""
        return self if imagined == self.imagined else replace(self, imagined=imagined)  # a new one compiles its layout

    def num(self, name: str) -> int:
        group = self.layout.groups[name]
        stream, codec = group.stream.name, group.stream.codec
        if isinstance(codec, HandedStates):
            return sum(self.num(source) for source in codec.sources) + codec.more
        written = {} if self.training else self._written
        num = written.get(stream, self.tokens.get(stream, group.stream.codec.num_tokens(group.view.kind)))
        return num if self.training or not self.stage.by_block else self._of_first_block(group, num)

    def _of_first_block(self, group: Group, num: int) -> int:
        """The tokens of which a first call consists, where acting goes on block by block."""
        if group.name in self.stage.remembered and group.name not in self.imagined:
            return 0
        clean = group.view.kind == "clean"
        return (self.layout.clock.per_block(group.stream.name) if clean else self.layout.per_call(group.name)) or num

    def num_levels(self, name: str) -> int:
        """How many levels a group is told."""
        group = self.layout.groups[name]
        told = self.layout.teller(name)
        noised = group.view.kind == "noised" and isinstance(group.stream.objective, Flow | Diffusion)
        blocks = self.training and (noised or group.view.noised_share > 0)
        if told and self.training:
            return self.num_levels(told)
        if blocks and isinstance(group.stream.objective, Flow) and group.stream.objective.delays:
            return self.num(name)  # a token may be given clean beside one that is not
        return self.layout.clock.num_levels(group.stream.name, self.num(name)) if blocks else 1

    def width(self, group: Group) -> int:
        return self.specs[group.tower].width

    def modulators(self, tower: str) -> int:
        """Weights that turn other groups' states into what one tower is told."""
        edges = [edge for edge in self.layout.edges if edge.via == "modulate"]
        told = {edge.src for edge in edges if self.layout.groups[edge.dst].tower == tower}
        width = self.specs[tower].width
        return sum(linear_parameters(self.width(self.layout.groups[src]), width) for src in told)

    def encode(self, names: frozenset[str]) -> int:
        """Raw data to latents: each ``now`` view, and each learned stream's target once."""
        groups = [self.layout.groups[name] for name in names]
        learned = {group.stream.name: group for group in groups if group.view.kind != "now"}
        now = sum(group.stream.codec.encode_flops("now") for group in groups if group.view.kind == "now")
        return now + sum(group.stream.codec.encode_flops(group.view.kind) for group in learned.values())

    def embed(self, names: frozenset[str]) -> int:
        return sum(self._embed(name) for name in names)

    def _embed(self, name: str) -> int:
        """One group; of a codec's tokens perhaps only a block is there."""
        group = self.layout.groups[name]
        kind, cut = group.view.kind, not self.training and self.stage.by_block
        cut = cut or isinstance(group.stream.codec, HandedStates)
        whole = group.stream.codec.embed_flops(kind, self.width(group))
        return whole * self.num(name) // group.stream.codec.num_tokens(kind) if cut else whole

    def read(self, name: str, num: int) -> int:
        group = self.layout.groups[name]
        codec, kind = group.stream.codec, group.view.kind
        return codec.read_flops(kind, self.width(group)) * num // codec.num_tokens(kind)

    def run(self, names: frozenset[str], grown: tuple[str, int] | None = None) -> int:
        """One pass of some groups, without their embedding. ``grown``: a group that runs only the last of so many
        tokens."""
        by_tower: dict[str, list[str]] = {}
        for name in sorted(names):
            by_tower.setdefault(self.layout.groups[name].tower, []).append(name)
        return sum(self._tower(tower, groups, grown) for tower, groups in by_tower.items())

    def keys(self, name: str, layer: int, grown: tuple[str, int] | None = None) -> int:
        """How many tokens one group reads jointly in one layer."""
        edges = [edge for edge in self.layout.sources(name) if edge.layers is None or layer in edge.layers]
        return sum(grown[1] if grown and edge.src == grown[0] else self.num(edge.src) for edge in edges)

    def attention(self, name: str, layer: int, queries: int, grown: tuple[str, int] | None = None) -> int:
        """Scores and weighted values of one group in one layer."""
        heads = self.specs[self.layout.groups[name].tower].geometry
        return 2 * linear_flops(queries, heads.heads * heads.head_dim, self.keys(name, layer, grown))

    def context(self, tower: str, layer: int) -> dict[int, int]:
        """How many tokens a layer reads across, by their width."""
        found: dict[int, int] = {}
        for edge in self.layout.across(tower, layer):
            if edge.via == "cross":
                spec = self.specs[self.layout.groups[edge.src].tower]
                width = read_width(spec, edge.tap)
                found[width] = found.get(width, 0) + read_tokens(spec, self.num(edge.src), edge.tap)
        return found

    def mapped(self, names: Iterable[str], layer: int, of: frozenset[str] | None = None) -> int:
        """How many tokens some groups read in one layer, each counted once; ``of``: those of some groups alone."""
        edges = [edge for name in names for edge in self.layout.sources(name)]
        read = {edge.src for edge in edges if edge.layers is None or layer in edge.layers}
        return sum(self.num(src) for src in (read if of is None else read & of))

    def mapping(
        self, tower: str, names: Iterable[str], layer: int, num_tokens: int, of: frozenset[str] | None = None
    ) -> int:
        """What a layer that maps the keys it reads does more than others."""
        spec = self.specs[tower]
        if not isinstance(spec, SmolExpert) or not spec.maps_keys(layer):
            return 0
        return spec.mapping_flops(num_tokens, self.mapped(names, layer, of))

    def mapped_once(self, running: frozenset[str]) -> int:
        """What layers that map keys make of groups that are not run: once for all steps of a leg."""
        total = 0
        for tower, spec in self.specs.items():
            names = [name for name in running if self.layout.groups[name].tower == tower]
            for layer in range(spec.geometry.depth if isinstance(spec, SmolExpert) else 0):
                total += self.mapping(tower, names, layer, 0) - self.mapping(tower, names, layer, 0, running)
        return total

    def unasked(self, names: frozenset[str]) -> frozenset[str]:
        """Of the groups that acting runs in one pass, those whose tower gives keys and values alone at its end."""
        silent = self.layout.silent(names)
        answering = {self.layout.groups[name].tower for name in names - silent}
        return frozenset(name for name in silent if self.layout.groups[name].tower not in answering)

    def spared(self, names: frozenset[str]) -> int:
        """What acting spares of a pass: the last layer of groups that nobody asks, behind queries, keys and values."""
        total, unasked = 0, self.unasked(names)
        for tower in {self.layout.groups[name].tower for name in unasked}:
            spec, own = self.specs[tower], [name for name in unasked if self.layout.groups[name].tower == tower]
            queries = spec.geometry.heads * spec.geometry.head_dim
            total += self.behind_keys(tower, own)
            total -= (
                linear_flops(sum(self.num(name) for name in own), spec.width, queries) if spec.geometry.depth else 0
            )
        return total

    def behind_keys(self, tower: str, names: Iterable[str]) -> int:
        """The last layer's work for groups of a tower, but for keys and values; none of a tower without layers."""
        spec, names = self.specs[tower], list(names)
        if not spec.geometry.depth:
            return 0
        last, num = spec.geometry.depth - 1, sum(self.num(name) for name in names)
        total = spec.layer_flops(num, self.context(tower, last)) - spec.key_flops(num)
        return total + sum(self.attention(name, last, self.num(name)) for name in names)

    def _tower(self, tower: str, names: list[str], grown: tuple[str, int] | None) -> int:
        spec = self.specs[tower]
        queries = {name: 1 if grown and name == grown[0] else self.num(name) for name in names}
        total, conditions = 0, set[tuple[Edge, ...]]()
        num_levels = sum(self.num_levels(name) for name in names)
        if isinstance(spec, ForwardTower):
            return spec.call_flops(sum(queries.values()), self.context(tower, 0))
        if isinstance(spec, GrootHead):
            total += spec.modulation_flops(num_levels)
        if isinstance(spec, Dit):
            total += spec.end_flops(sum(queries.values()))
        for layer in range(max(1, spec.geometry.depth)):
            across, context = self.layout.across(tower, layer), self.context(tower, layer)
            if across not in conditions:
                conditions.add(across)
                told = [edge.src for edge in across if edge.via == "modulate"]
                total += spec.frame_flops(num_levels, context)
                total += sum(linear_flops(1, self.width(self.layout.groups[src]), spec.width) for src in told)
            if layer == spec.geometry.depth:
                break
            total += spec.layer_flops(sum(queries.values()), context)
            total += self.mapping(tower, names, layer, sum(queries.values()))
            total += sum(self.attention(name, layer, queries[name], grown) for name in names)
        return total


def _act(recipe: Recipe, work: Work) -> ActFlops:
    stage = recipe.stage
    legs = tuple(_leg(leg, work.beside(leg.imagined)) for leg in legs_of(stage))
    settled = {stage.stream(name) for leg in stage.schedule for name in moved(leg)}
    decode = sum(stream.codec.decode_flops() for stream in settled)
    ran = {work.layout.groups[name].stream for leg in legs_of(stage) for name in leg.once | leg.running}
    beside = sum(one.codec.beside_flops() for one in ran if isinstance(one.codec, StackedLatents | FrameLatents))
    shown = [work.layout.groups[edge.src].stream for edge in work.layout.edges if work.layout.showing(edge)]
    beside += sum(stream.codec.decode_flops() for stream in shown)
    return ActFlops(encode=work.encode(observed(stage)) + beside, legs=legs, decode=decode)


def _leg(leg: LegGroups, work: Work) -> LegFlops:
    caches = [names for names in (leg.once, leg.blank_once) if names]
    once = leg.copies * sum(work.run(names) + work.embed(names) - work.spared(names) for names in caches)
    return LegFlops(leg=leg.words, once=once, steps=leg.steps, moving=leg.copies * _steps(leg, work))


def _steps(leg: LegGroups, work: Work) -> int:
    """All steps of one leg together."""
    if isinstance(leg.leg, Decode):
        (name,) = leg.running
        written = range(1, leg.steps + 1)
        return sum(work.run(leg.running, (name, num)) for num in written) + work.read(name, leg.steps)
    answers = sum(work.read(name, work.num(name)) for name in leg.read_out)
    answers += sum(work.read(name, work.num(name)) for name in leg.blank_read)
    every = sum(work.run(names) + work.embed(names) for names in (leg.running, leg.blank)) + answers
    return leg.steps * every - (leg.steps - 1) * sum(work.mapped_once(names) for names in (leg.running, leg.blank))


def _train(recipe: Recipe, phase: Phase, work: Work, *, cached: bool) -> SampleFlops:
    layout, work = work.layout, replace(work, training=True)
    losses = recipe.stage.owing(phase.losses)
    needed = layout.needed(losses)
    trained = frozenset(name for name in needed if layout.groups[name].tower in phase.trains)
    fixed = needed & layout.stable([name for name, group in layout.groups.items() if group.tower in phase.trains])
    running = needed - fixed if cached else needed
    read = sum(work.read(name, work.num(name)) for name in losses)
    encode = work.encode(running)
    forward = encode + work.run(running) + work.embed(running) + read
    passed = needed - fixed - trained
    backward = 2 * (
        work.run(trained) + work.embed(trained) + sum(work.read(name, work.num(name)) for name in trained & losses)
    )
    backward += work.run(passed) + sum(work.read(name, work.num(name)) for name in passed & losses)
    backward -= _read_as_data(trained, trained | passed, work)
    codecs = [layout.groups[name].stream.codec for name in trained]
    backward -= sum(codec.pixel_flops() for codec in codecs if isinstance(codec, FeatureMaps | PictureVectors))
    backward -= 2 * _unanswered(trained, needed, losses, work) + _unanswered(passed, needed, losses, work)
    return SampleFlops(encode=encode, forward=forward, backward=backward)


def _read_as_data(trained: frozenset[str], moving: frozenset[str], work: Work) -> int:
    """Keys and values that trained layers make directly of hidden states which take no gradient (a frozen or cut
    backbone's): these products owe none of their input. Wan projects its context first, so there it is one product."""
    total = 0
    for tower in {work.layout.groups[name].tower for name in trained}:
        spec = work.specs[tower]
        own = [name for name in trained if work.layout.groups[name].tower == tower]
        for layer in range(spec.geometry.depth):
            read = {edge.src for name in own for edge in work.layout.sources(name)}
            if work.mapping(tower, own, layer, 0) and not read & moving - set(own):
                total += work.mapping(tower, own, layer, 0)
        if isinstance(spec, ForwardTower):
            total += _not_taken(tower, spec, own, moving, work)
        if isinstance(spec, MolmoExpert):
            for layer in range(spec.depth):
                cut = [edge for edge in work.layout.across(tower, layer) if not (edge.grad and edge.src in moving)]
                total += spec.mapping_flops(sum(work.num(edge.src) for edge in cut))
        if not isinstance(spec, Classic | Cosmos | GrootHead):
            continue
        for layer in range(spec.geometry.depth):
            for edge in work.layout.across(tower, layer):
                if edge.via == "cross" and not (edge.grad and edge.src in moving):
                    total += 2 * linear_flops(work.num(edge.src), spec.context_width, spec.attention_width)
    return total


def _not_taken(tower: str, spec: ForwardTower, own: list[str], moving: frozenset[str], work: Work) -> int:
    """What the backward pass of a tower that is called as a whole owes less than twice its forward pass."""
    num, context = sum(work.num(name) for name in own), work.context(tower, 0)
    taking = {
        read_width(work.specs[work.layout.groups[edge.src].tower], edge.tap)
        for edge in work.layout.across(tower, 0)
        if edge.via == "cross" and edge.grad and edge.src in moving
    }
    embedded = any(work.layout.groups[name].stream.codec.num_parameters(spec.width) for name in own)
    return 2 * spec.call_flops(num, context) - spec.backward_flops(num, context, frozenset(taking), embedded)


def _by_keys(edge: Edge, layout: Layout, work: Work) -> bool:
    """Whether what an edge reads are keys and values."""
    return isinstance(work.specs[layout.groups[edge.dst].tower], MolmoExpert)


def _unanswered(names: frozenset[str], needed: frozenset[str], losses: frozenset[str], work: Work) -> int:
    """The last layer's work, but for keys and values, of towers whose final hidden states nobody uses: it runs forward
    and gets no gradient (the language model under pi0). A tower with one group that is used pays for all of them."""
    layout = work.layout
    used = set(losses)
    used |= {
        e.src
        for e in layout.edges
        if e.via != "joint" and e.tap is None and e.dst in needed and not _by_keys(e, layout, work)
    }
    busy = {layout.groups[name].tower for name in used}
    return sum(
        work.behind_keys(tower, [name for name in names if layout.groups[name].tower == tower])
        for tower in {layout.groups[name].tower for name in names} - busy
    )
