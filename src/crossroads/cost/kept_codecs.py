"""What the backward pass keeps of the ends of a group: its latents as tokens, and its answers."""

from __future__ import annotations

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
from crossroads.cost.kept import BOUND, Kept


def embedding(name: str, work: Work) -> Kept:
    """Latent to tokens of one group."""
    group = work.layout.groups[name]
    codec, width, num = group.stream.codec, work.width(group), work.num(name)
    if isinstance(codec, Patches):
        pixels = len(codec.shown) * 3 * codec.image_hw[0] * codec.image_hw[1]
        ends = Kept(narrow=pixels + num * codec.vision_width, wide=num * codec.vision_width)
        return vision_layer(codec).times(codec.depth) + ends
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


def vision_layer(codec: Patches) -> Kept:
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


def answers(names: frozenset[str], work: Work) -> Kept:
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
