"""What the backward pass keeps of the forward pass: activation memory of one training sample, from specs alone.

Counted are the tensors that eager autograd saves, tower layer by tower layer, with attention that saves queries, keys,
values and results but no scores (Dao 2023, arXiv 2307.08691), and without recomputation. The terms are those of
Korthikanti et al. 2022, arXiv 2205.05198, section 4.1, for these blocks: no dropout, keys and values gathered once per
reading group, norms in float32. Weights that pass gradients but take none are counted as if they took them. Held to
what autograd really saves in ``tests/cost/test_activations.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crossroads.codecs.action_queries import ActionQueries
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.bare_latents import BareLatents
from crossroads.codecs.chunk_token import ChunkToken
from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.foreseen import FuturePatches
from crossroads.codecs.frame_latents import FrameLatents
from crossroads.codecs.frames import ActionFrame, StateFrame, ValueFrame
from crossroads.codecs.fused_pixels import VisionTower
from crossroads.codecs.gripper_state import GripperState
from crossroads.codecs.handed import HandedStates
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.maps import FeatureMaps
from crossroads.codecs.motion import MotionClip
from crossroads.codecs.percepts import GoalPercept, Percepts
from crossroads.codecs.picture_vectors import PictureVectors
from crossroads.codecs.pixels import Patches
from crossroads.codecs.plan_slots import PlanSlots
from crossroads.codecs.resampled import ResampledImages
from crossroads.codecs.resampler import Resampler
from crossroads.codecs.sentence import SentenceTokens
from crossroads.codecs.slices import ActionSlices
from crossroads.codecs.slots import CameraSlots
from crossroads.codecs.soft_actions import SoftActions
from crossroads.codecs.stacked_latents import StackedLatents
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.codecs.told_actions import ToldActions
from crossroads.cost.called import kept_of_motion, kept_of_percepts, kept_of_told
from crossroads.cost.flops import Work
from crossroads.errors import InputError
from crossroads.stage import Phase
from crossroads.towers.bart import Bart, Placed
from crossroads.towers.classic import Classic
from crossroads.towers.cognition import CognitionHead
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.dit import Dit
from crossroads.towers.forward import ForwardTower
from crossroads.towers.foundry import Foundry
from crossroads.towers.gemma import Gemma
from crossroads.towers.gemma3 import Gemma3
from crossroads.towers.given import Given
from crossroads.towers.groot import GrootHead, GrootN1Head
from crossroads.towers.jepa import JepaPredictor
from crossroads.towers.llama import Llama, SmolExpert
from crossroads.towers.mimic import MimicExpert
from crossroads.towers.molmo import MolmoExpert
from crossroads.towers.motus import MotusExpert
from crossroads.towers.plain import Adapter, Gpt, Plain
from crossroads.towers.qwen import Qwen
from crossroads.towers.wan import Wan

BOUND = 30
"""Numbers that the variational bound (``diffusion.Process.bound``) keeps of each that is answered; counted."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Numbers kept in the precision that matrix products run in (``narrow``), and in float32 (``wide``); ``cast``:
    copies of float32 numbers that a product makes for itself where it is narrower."""

    narrow: int = 0
    wide: int = 0
    cast: int = 0

    @classmethod
    def of(cls, counted: tuple[int, int]) -> Kept:
        """What a call was counted to keep."""
        return cls(narrow=counted[0], wide=counted[1])

    def __add__(self, other: Kept) -> Kept:
        return Kept(narrow=self.narrow + other.narrow, wide=self.wide + other.wide, cast=self.cast + other.cast)

    def times(self, count: int) -> Kept:
        """So many of the same."""
        return Kept(narrow=self.narrow * count, wide=self.wide * count, cast=self.cast * count)

    def bytes(self, narrow_bytes: int) -> int:
        return (self.narrow + (self.cast if narrow_bytes < 4 else 0)) * narrow_bytes + self.wide * 4


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one layer of a tower is given: its tokens, the runs of them with a level of their own, its context."""

    num_tokens: int
    num_levels: int
    num_context: int


def saved_by_training(phase: Phase, work: Work) -> Kept:
    """What one training sample of a phase keeps until its backward pass.

    A tower that is frozen and yet passes gradients on is counted as if it were trained, which is too much.
    """
    layout, work = work.layout, replace(work, training=True)
    owing = work.stage.owing(phase.losses)
    needed = layout.needed(owing)
    fixed = layout.stable([name for name, group in layout.groups.items() if group.tower in phase.trains])
    moving = needed - fixed
    towers = {layout.groups[name].tower for name in moving}
    total = Kept()
    for tower in sorted(towers):
        total += _tower(tower, sorted(name for name in needed if layout.groups[name].tower == tower), work)
    for name in sorted(moving):
        total += _embedding(name, work)
    return total + _answers(owing, work)


def widest_layer(names: frozenset[str], work: Work) -> Kept:
    """What the costliest layer of one pass without gradients holds while it runs."""
    by_tower: dict[str, list[str]] = {}
    for name in sorted(names):
        by_tower.setdefault(work.layout.groups[name].tower, []).append(name)
    layers = [Kept()]
    for tower, groups in by_tower.items():
        depth = work.specs[tower].geometry.depth
        layers += [_layer(tower, groups, layer, work) for layer in range(depth)]
    for name in names:
        codec = work.layout.groups[name].stream.codec
        if isinstance(codec, Patches):
            layers.append(_vision_layer(codec))
    return max(layers, key=lambda kept: kept.bytes(2))


def _tower(tower: str, names: list[str], work: Work) -> Kept:
    spec = work.specs[tower]
    if isinstance(spec, ForwardTower):
        narrow, wide = spec.kept(sum(work.num(name) for name in names), work.context(tower, 0))
        return Kept(narrow=narrow, wide=wide)
    total = _frame(spec, _given(tower, names, 0, work))
    for layer in range(spec.geometry.depth):
        total += _layer(tower, names, layer, work)
    return total


def _given(tower: str, names: list[str], layer: int, work: Work) -> Pass:
    num = sum(work.num(name) for name in names)
    num_levels = sum(work.num_levels(name) for name in names)
    return Pass(num_tokens=num, num_levels=num_levels, num_context=sum(work.context(tower, layer).values()))


def _layer(tower: str, names: list[str], layer: int, work: Work) -> Kept:
    """One layer, with the keys and values that its groups gather from several places, and what they attend."""
    spec = work.specs[tower]
    if type(spec) not in _LAYERS:
        raise InputError(
            where=f"activation memory of tower {tower!r}",
            expected=f"one of {', '.join(sorted(kind.__name__ for kind in _LAYERS))}",
            got=type(spec).__name__,
            do="Say in cost/activations.py what a layer of it keeps.",
        )
    heads = spec.geometry
    keys = sum(work.keys(name, layer) for name in names if not _in_one_run(name, names, layer, work))
    gathered = 2 * keys * heads.kv_heads * heads.head_dim
    # What each call attended, and, where a tower has several, those side by side.
    attended = sum(work.num(name) for name in names) * heads.heads * heads.head_dim * (2 if len(names) > 1 else 1)
    kept = _LAYERS[type(spec)](spec, _given(tower, names, layer, work)) + Kept(narrow=gathered + attended)
    if heads.cap is not None:  # scores that are bent are all made: as they were, bent, hidden, and their shares
        scores = sum(work.num(name) * work.keys(name, layer) for name in names) * heads.heads
        kept += Kept(wide=4 * scores)
    return kept + _mapped(tower, names, layer, work)


def _mapped(tower: str, names: list[str], layer: int, work: Work) -> Kept:
    """What a layer that maps the keys it reads keeps more than a joint one: what it maps; it has no keys of its own."""
    spec = work.specs[tower]
    if not isinstance(spec, SmolExpert) or not spec.maps_keys(layer):
        return Kept()
    num = work.mapped(names, layer) - sum(work.num(name) for name in names)
    return Kept(narrow=2 * num * spec.kv_heads * spec.head_dim)


def _in_one_run(name: str, names: list[str], layer: int, work: Work) -> bool:
    """Whether all that a group reads lies side by side in its own tower's run, so that nothing is copied."""
    edges = [edge for edge in work.layout.sources(name) if edge.layers is None or layer in edge.layers]
    read = [other for other in names if other in {edge.src for edge in edges}]
    if len(read) < len(edges) or len({edge.grad for edge in edges}) > 1:
        return False
    return not read or names[names.index(read[0]) : names.index(read[-1]) + 1] == read


def _wan_layer(spec: Wan, given: Pass) -> Kept:
    """Two modulated layer norms, two outputs before their gates, the normed and turned queries and keys."""
    w, e, n, m = spec.width, spec.attention_width, given.num_tokens, given.num_context
    told = 8 * w if given.num_levels > 1 else 0  # modulation per token, where groups have levels of their own
    kept = Kept(narrow=n * (4 * w + told + 3 * e + 2 * spec.mlp), wide=n * (4 * w + 4 * e))
    return kept + (Kept(narrow=n * (w + 2 * e) + m * 2 * e, wide=n * (w + 2 * e) + m * 2 * e) if m else Kept())


def _cosmos_layer(spec: Cosmos, given: Pass) -> Kept:
    """Two or three modulated layer norms, their outputs before the gates, the normed and turned queries and keys."""
    w, e, n, m, parts = spec.width, spec.attention_width, given.num_tokens, given.num_context, spec.num_parts
    told = 4 * w * parts if given.num_levels > 1 else 0
    kept = Kept(narrow=n * (2 * parts * w + told + 3 * e + 2 * spec.mlp), wide=n * (2 * parts * w + 4 * e))
    return kept + (Kept(narrow=n * 2 * e + m * 2 * e, wide=n * e + m * e) if m else Kept())


def _gemma_layer(spec: Gemma, given: Pass) -> Kept:
    """Adaptive: outputs before their gates as well, and of tokens with levels of their own what those give them. Where
    products are narrower, queries and keys each cast the cosines and sines that turn them."""
    w, e, n = spec.width, spec.heads * spec.head_dim, given.num_tokens
    kept = Kept(narrow=n * (2 * w + 3 * e + 4 * spec.mlp), wide=n * 4 * w, cast=n * 4 * spec.head_dim)
    if spec.normed:
        kept += Kept(wide=n * (spec.heads + spec.kv_heads) * spec.head_dim * 2)
    if not spec.adaptive:
        return kept
    told = given.num_levels > 1
    return kept + Kept(narrow=n * (8 * w if told else 2 * w), wide=n * 2 * w if told else 0)


def _gemma3_layer(spec: Gemma3, given: Pass) -> Kept:
    """Two norms more."""
    w, n = spec.width, given.num_tokens
    return _gemma_layer(spec, given) + Kept(narrow=n * 2 * w, wide=n * 4 * w)


def _dit_layer(spec: Dit, given: Pass) -> Kept:
    """Two modulated layer norms and their outputs before the gates."""
    w, n = spec.width, given.num_tokens
    told = 8 * w if not spec.num_levels and given.num_levels > 1 else 0
    return Kept(narrow=n * (4 * w + told + 3 * w + 2 * spec.mlp), wide=n * 4 * w)


def _plain_layer(spec: Plain, given: Pass) -> Kept:
    w, n = spec.width, given.num_tokens
    return Kept(narrow=n * (2 * w + 3 * w + 2 * spec.mlp), wide=n * 2 * w)


def _foundry_layer(spec: Foundry, given: Pass) -> Kept:
    """As a plain one, with turned queries and keys beside the product that values are a part of; a gated network keeps
    both of its halves, the gate behind SiLU and their product."""
    w, n = spec.width, given.num_tokens
    inner = (4 if spec.gated else 2) * spec.mlp
    normed = 2 * w if spec.norm_heads else 0
    return Kept(narrow=n * (2 * w + 5 * w + normed + inner), wide=n * (2 * w + normed))


def _jepa_layer(spec: JepaPredictor, given: Pass) -> Kept:
    """As a plain one, with turned queries and keys beside the product that values are a part of."""
    w, n = spec.width, given.num_tokens
    return Kept(narrow=n * (2 * w + 5 * w + 2 * spec.mlp), wide=n * 2 * w)


def _classic_layer(spec: Classic, given: Pass) -> Kept:
    """Norms and sums, and what placed queries and keys are made of; across, the same once more. The few vectors for the
    places of what is read across are not counted."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    sums = 4 * w if spec.norm_first else 0  # norms behind the sums leave them as narrow as the products
    kept = Kept(narrow=n * (9 * w - sums + spec.mlp), wide=n * sums)
    return kept + (Kept(narrow=n * 5 * w + m * 2 * w, cast=2 * m * w) if m else Kept())


def _molmo_layer(spec: MolmoExpert, given: Pass) -> Kept:
    """Three modulated norms and their outputs before the gates, all queries and keys normed and turned, a gated
    network; what is read, mapped and normed."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    told = 18 * w if given.num_levels > 1 else 0
    normed = 3 * w if spec.norm_heads else 0
    kept = Kept(narrow=n * (17 * w + told + 4 * spec.mlp), wide=n * (3 * w + normed))
    read = (2 if spec.norm_context else 0) + (1 if spec.norm_heads else 0)
    return kept + Kept(narrow=m * (2 * w + 2 * spec.key_width), wide=m * read * w)


def _motus_layer(spec: MotusExpert, given: Pass) -> Kept:
    """As Wan's without rotation and reading across; without levels, two plain layer norms and no gates."""
    w, e, n = spec.width, spec.attention_width, given.num_tokens
    told = 8 * w if spec.acts and given.num_levels > 1 else 0
    gated = 4 * w if spec.acts else 2 * w
    wide = 4 * w if spec.acts else 2 * w
    return Kept(narrow=n * (gated + told + 3 * e + 2 * spec.mlp), wide=n * (wide + 2 * e))


def _mimic_layer(spec: MimicExpert, given: Pass) -> Kept:
    """Three modulated layer norms and their outputs before the gates, all queries and keys normed, what is read."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    told = 12 * w if given.num_levels > 1 else 0
    kept = Kept(narrow=n * (7 * w + told + 6 * w + 2 * spec.mlp), wide=n * (6 * w + 6 * w))
    return kept + Kept(narrow=m * 2 * w, wide=m * 2 * w)


def _groot_layer(spec: GrootHead, given: Pass) -> Kept:
    """Two halves, each with two layer norms, the first of them modulated; what the first half reads."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    told = 4 * w if given.num_levels > 1 else 0
    kept = Kept(narrow=n * (2 * told + 9 * w + 4 * spec.mlp), wide=n * 4 * w)
    return kept + Kept(narrow=2 * m * w)


def _groot_n1_layer(spec: GrootN1Head, given: Pass) -> Kept:
    """The same over final states, which are float32: each layer's keys and its values copy them anew."""
    return _groot_layer(spec, given) + Kept(cast=2 * given.num_context * spec.context_width)


def _given_layer(spec: Given, given: Pass) -> Kept:
    return Kept()


_LAYERS: Mapping[type, Callable[[Any, Pass], Kept]] = {
    Adapter: _plain_layer,
    Bart: _plain_layer,
    Classic: _classic_layer,
    CognitionHead: _plain_layer,
    Cosmos: _cosmos_layer,
    Dit: _dit_layer,
    Foundry: _foundry_layer,
    Gemma: _gemma_layer,
    Given: _given_layer,
    Gpt: _plain_layer,
    Gemma3: _gemma3_layer,
    GrootHead: _groot_layer,
    GrootN1Head: _groot_n1_layer,
    JepaPredictor: _jepa_layer,
    Llama: _gemma_layer,
    MimicExpert: _mimic_layer,
    MolmoExpert: _molmo_layer,
    MotusExpert: _motus_layer,
    Placed: _plain_layer,
    Plain: _plain_layer,
    Qwen: _gemma_layer,
    SmolExpert: _gemma_layer,
    Wan: _wan_layer,
}


def _frame(spec: Any, given: Pass) -> Kept:
    """Outside the layers: the last norm, and for Wan the projected context."""
    w, n = spec.width, given.num_tokens
    if isinstance(spec, Classic):  # what is read across is the same for all layers
        return Kept(narrow=given.num_context * w)
    if isinstance(spec, Wan):
        return Kept(narrow=given.num_context * 3 * w, wide=n * 3 * w if spec.modulated_head else 0)
    if isinstance(spec, MimicExpert):  # the norm of what is read as well
        read = given.num_context * spec.context_width
        return Kept(narrow=read, wide=n * 3 * w + read)
    if isinstance(spec, Cosmos | Dit | GrootHead):
        return Kept(wide=n * 3 * w)
    if isinstance(spec, JepaPredictor):  # what is read across on entry, and the last norm
        return Kept(narrow=given.num_context * spec.context_width, wide=n * 2 * w)
    if isinstance(spec, MotusExpert):
        return Kept(wide=n * 3 * w if spec.acts else 0)
    if isinstance(spec, Gpt):  # a norm on entry, too
        return Kept(wide=n * 3 * w)
    return Kept(wide=n * 2 * w) if isinstance(spec, Gemma | Plain) else Kept()


def _embedding(name: str, work: Work) -> Kept:
    """Latent to tokens of one group."""
    group = work.layout.groups[name]
    codec, width, num = group.stream.codec, work.width(group), work.num(name)
    if isinstance(codec, Patches):
        pixels = len(codec.shown) * 3 * codec.image_hw[0] * codec.image_hw[1]
        ends = Kept(narrow=pixels + num * codec.vision_width, wide=num * codec.vision_width)
        return _vision_layer(codec).times(codec.depth) + ends
    if isinstance(codec, MotionClip):
        return Kept.of(kept_of_motion(codec))
    if isinstance(codec, ResampledImages):
        return _resampled(codec)
    if isinstance(codec, Percepts | GoalPercept):
        return Kept.of(kept_of_percepts(codec if isinstance(codec, Percepts) else codec.percepts, num))
    if isinstance(codec, PlanSlots):
        return _plan_slots(codec, width) if group.view.kind == "posterior" else Kept()
    if isinstance(codec, SentenceTokens):
        return Kept(narrow=num * codec.source.width)
    if isinstance(codec, GripperState):
        return Kept(narrow=num * (codec.num_state + 1 + 2 * width))
    if isinstance(codec, FeatureMaps | PictureVectors):
        return _maps(codec)
    if isinstance(codec, SoftActions):
        return Kept(narrow=num * codec.entering)
    if isinstance(codec, HandedStates):
        return Kept(narrow=num * codec.read_width)
    if isinstance(codec, StateToken):
        return Kept(narrow=num * (codec.num_state + 2 * sum(codec.hidden)))
    if isinstance(codec, ActionTokens):
        return Kept(narrow=num * (codec.action_size + (4 * width if codec.level_in_codec else 0)))
    if isinstance(codec, VideoLatents | CameraSlots | StackedLatents):
        return Kept(narrow=num * codec.patch_size)
    if isinstance(codec, ActionFrame | StateFrame | ValueFrame):
        return Kept(narrow=num * codec.frame.patch_size)
    return Kept()


def _maps(codec: FeatureMaps | PictureVectors) -> Kept:
    """What each norm was given and each rectifier and the pool gave, and which places the pool took (whole numbers of 8
    bytes)."""
    first, *rest = codec.network.convolutions(codec.image_hw)
    pooled = first.outputs * rest[0].read
    given = sum(part.outputs * part.made for part in (first, *rest))
    rectified = sum(part.outputs * part.made for part in (first, *(part for part in rest if part.kernel > 1)))
    kept = Kept(narrow=first.inputs * first.read + given + rectified + pooled, wide=2 * pooled)
    return kept.times(codec.num_tokens("now") if isinstance(codec, PictureVectors) else len(codec.cameras))


def _vision_layer(codec: Patches) -> Kept:
    """A plain layer whose queries, keys and values stay together."""
    return _transformer(codec.vision_width, codec.vision_mlp, len(codec.shown) * codec.patches_per_camera)


def _transformer(w: int, mlp: int, n: int) -> Kept:
    """One layer of a codec's own transformer over ``n`` tokens."""
    return Kept(narrow=n * (2 * w + 4 * w + 2 * mlp), wide=n * 2 * w)


def _resampled(codec: ResampledImages) -> Kept:
    """The vision transformer, if it is trained, then each layer that reads its states; both for every picture."""
    w, m = codec.vision.width, codec.resampler.num
    n, kept = codec.num_patches, Kept()
    if isinstance(codec.vision, VisionTower):
        kept += _transformer(w, codec.vision.mlp, n + codec.vision.marks).times(codec.vision.depth)
        kept += Kept(narrow=3 * codec.image_hw[0] * codec.image_hw[1])
    ends = Kept(narrow=m * w + codec.class_width)
    return (kept + _read_into(codec.resampler, n, w) + ends).times(codec.steps.num * len(codec.cameras))


def _read_into(spec: Resampler, n: int, w: int) -> Kept:
    """A resampler of one set of ``n`` features."""
    m, inner = spec.num, spec.inner
    layer = Kept(narrow=(n + m) * (w + 2 * inner) + m * (2 * w + 3 * inner + 8 * w), wide=2 * m * w)
    return layer.times(spec.depth) + Kept(wide=n * w + m * w)


def _plan_slots(codec: PlanSlots, width: int) -> Kept:
    """The frames to come, mapped and resampled."""
    n = codec.num_features
    return _read_into(codec.resampler, n, width) + Kept(narrow=n * codec.told_by.size)


def _foreseen(codec: FuturePatches, width: int) -> Kept:
    """The decoder over each camera's queries and masks, and what is compared."""
    told = codec.decoder
    layer = _transformer(width, 4 * width, told.num_queries + told.num_masks)
    ends = Kept(narrow=(told.num_queries + told.num_masks) * width, wide=told.num_masks * (width + told.size))
    return (layer.times(told.depth) + ends).times(codec.steps.num * len(codec.cameras))


def _answers(names: frozenset[str], work: Work) -> Kept:
    """What is read out and compared: the answer and its difference from the target, or scores over a vocabulary."""
    total = Kept()
    for name in names:
        group = work.layout.groups[name]
        codec, num = group.stream.codec, work.num(name)
        if isinstance(codec, TextTokens | DiscreteActions):
            total += Kept(wide=num * codec.vocabulary.size)
        elif isinstance(codec, FuturePatches):
            total += _foreseen(codec, work.width(group))
        elif isinstance(codec, ActionQueries):
            total += Kept(narrow=num * (work.width(group) + sum(codec.hidden)), wide=num * 2 * codec.action_size)
        elif isinstance(codec, ActionSlices):  # norms of what is joined and of each block, and what they give
            joined, inside = num * work.width(group), codec.num_actions * codec.hidden
            total += Kept(narrow=joined + (2 + 2 * codec.blocks) * inside, wide=joined + (1 + codec.blocks) * inside)
            total += Kept(wide=num)
        elif isinstance(codec, ToldActions):
            total += Kept.of(kept_of_told(codec, work.width(group)))
        elif isinstance(codec, FrameLatents):
            total += Kept(wide=num * codec.autoencoder.channels)
        elif isinstance(codec, BareLatents):
            total += Kept(wide=num * codec.patch_size * (BOUND if codec.spread else 1))
        else:
            size = codec.read_flops(group.view.kind, work.width(group)) // (2 * num * work.width(group))
            spread = isinstance(codec, StackedLatents | ChunkToken) and codec.spread
            total += Kept(wide=num * size * (4 if spread else 1))  # the variational bound, which shares much, as well
    return total
