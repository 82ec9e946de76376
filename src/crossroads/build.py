"""Recipe to policy: the only file that knows every part. Specs are values; here they become modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.action_queries import ActionQueries, ActionQueryCodec
from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.bare import BareActionCodec, BareActions, BareState, BareStateCodec
from crossroads.codecs.bare_latents import BareLatentCodec, BareLatents
from crossroads.codecs.blank_actions import BlankActionCodec, BlankActions, SeenActionCodec, SeenActions
from crossroads.codecs.chunk_token import ChunkCodec, ChunkToken
from crossroads.codecs.clip_text import ClipStateCodec, ClipStates
from crossroads.codecs.discrete_actions import DiscreteActionCodec, DiscreteActions
from crossroads.codecs.florence import FlorenceCodec, FlorencePictures, FlorenceViews
from crossroads.codecs.foreseen import FuturePatchCodec, FuturePatches
from crossroads.codecs.frame_features import FrameFeatureCodec, FrameFeatures, StepCodec, StepTokens
from crossroads.codecs.frame_latents import FrameLatentCodec, FrameLatents
from crossroads.codecs.frames import (
    ActionFrame,
    ActionFrameCodec,
    FrameCodec,
    StateFrame,
    StateFrameCodec,
    ValueFrame,
    ValueFrameCodec,
)
from crossroads.codecs.fused_pixels import FusedPatchCodec, FusedPatches
from crossroads.codecs.gripper_state import GripperState, GripperStateCodec
from crossroads.codecs.handed import HandedCodec, HandedStates, TimedStates
from crossroads.codecs.held_actions import HeldActionCodec, HeldActions
from crossroads.codecs.image_features import ImageFeatureCodec, ImageFeatures
from crossroads.codecs.intern_pictures import InternPictureCodec, InternPictures
from crossroads.codecs.keypoint_vectors import KeypointCodec, KeypointVectors
from crossroads.codecs.knowledge import FutureFeatureCodec, FutureFeatures
from crossroads.codecs.latents import LatentCodec, VideoLatents
from crossroads.codecs.learned import LearnedCodec, LearnedTokens
from crossroads.codecs.maps import FeatureMapCodec, FeatureMaps
from crossroads.codecs.mimic_ends import MaskedState, MaskedStateCodec, ScaledActionCodec, ScaledActions
from crossroads.codecs.motion import MotionClip, MotionClipCodec, MotionCodeCodec, MotionCodes
from crossroads.codecs.pairs import FramePairCodec, FramePairs
from crossroads.codecs.percepts import GoalPercept, GoalPerceptCodec, PerceptCodec, Percepts
from crossroads.codecs.picture_vectors import PictureVectorCodec, PictureVectors
from crossroads.codecs.pixels import PatchCodec, Patches, PooledPatchCodec, PooledPatches, ShuffledPatches
from crossroads.codecs.plan import (
    BarePlan,
    BarePlanCodec,
    PlanAnswer,
    PlanAnswerCodec,
    PlanCodec,
    PlanQuery,
    PlanQueryCodec,
    PlanToken,
)
from crossroads.codecs.plan_slots import PlanSlotCodec, PlanSlots
from crossroads.codecs.prompt import PromptCodec, PromptTokens
from crossroads.codecs.published_text import TextFeatureCodec, TextFeatures
from crossroads.codecs.qwen_pictures import Qwen3Pictures, Qwen25Pictures, QwenPictureCodec
from crossroads.codecs.reason import ReasonCodec, ReasonFeatures
from crossroads.codecs.representation import Representation, RepresentationCodec
from crossroads.codecs.resampled import ResampledCodec, ResampledImages
from crossroads.codecs.scene import SceneCodec, SceneFeatures
from crossroads.codecs.sentence import SentenceCodec, SentenceTokens
from crossroads.codecs.slices import ActionSlices, BlankTokens, SliceCodec
from crossroads.codecs.slots import CameraSlots, SlotCodec
from crossroads.codecs.soft_actions import SoftActionCodec, SoftActions, SoftPromptCodec, SoftPrompts
from crossroads.codecs.stacked_latents import StackedCodec, StackedLatents
from crossroads.codecs.state import EmbodiedState, StateCodec, StateToken
from crossroads.codecs.step_actions import (
    StepActionCodec,
    StepActions,
    StepQueries,
    StepQueryCodec,
    StepSlotCodec,
    StepSlots,
)
from crossroads.codecs.subtask import SubtaskCodec, SubtaskTokens
from crossroads.codecs.target_pictures import TargetPictureCodec, TargetPictures
from crossroads.codecs.text import TextCodec, TextTokens
from crossroads.codecs.told_actions import ToldActionCodec, ToldActions
from crossroads.errors import InputError
from crossroads.layout import Layout
from crossroads.net import StreamNet
from crossroads.policy import ACTS, StreamPolicy
from crossroads.recipe import Recipe
from crossroads.space import ActionSpace, Statistics
from crossroads.stage import Stage
from crossroads.towers.bart import Bart, BartBlock, BartFrame, Placed, PlacedFrame
from crossroads.towers.classic import Classic, ClassicBlock, ClassicFrame
from crossroads.towers.cognition import CognitionBlock, CognitionFrame, CognitionHead
from crossroads.towers.cosmos import Cosmos, CosmosBlock, CosmosFrame
from crossroads.towers.dit import Dit, DitBlock, DitFrame
from crossroads.towers.forward import ForwardTower
from crossroads.towers.foundry import Foundry, FoundryBlock, FoundryFrame
from crossroads.towers.gemma import Gemma, GemmaBlock, GemmaFrame
from crossroads.towers.gemma3 import Gemma3, Gemma3Block, Gemma3Frame
from crossroads.towers.given import Given, GivenFrame
from crossroads.towers.groot import GrootBlock, GrootFrame, GrootHead, GrootN1Head
from crossroads.towers.jepa import JepaBlock, JepaFrame, JepaPredictor
from crossroads.towers.joint import Joint, JointLayer
from crossroads.towers.llama import Llama, LlamaBlock, LlamaFrame, SmolBlock, SmolExpert, SmolFrame
from crossroads.towers.mimic import MimicBlock, MimicExpert, MimicFrame
from crossroads.towers.molmo import MolmoBlock, MolmoExpert, MolmoFrame
from crossroads.towers.motus import MotusBlock, MotusExpert, MotusFrame
from crossroads.towers.plain import Adapter, AdapterFrame, Gpt, GptBlock, GptFrame, Plain, PlainBlock, PlainFrame
from crossroads.towers.qwen import Qwen, QwenBlock, QwenFrame
from crossroads.towers.wan import Wan, WanBlock, WanFrame

CODECS: Mapping[type, Callable[[Any, int], nn.Module]] = {
    ActionFrame: ActionFrameCodec,
    ActionQueries: ActionQueryCodec,
    ActionSlices: SliceCodec,
    ActionTokens: ActionCodec,
    BarePlan: BarePlanCodec,
    BareActions: BareActionCodec,
    BareLatents: BareLatentCodec,
    BareState: BareStateCodec,
    BlankActions: BlankActionCodec,
    BlankTokens: LearnedCodec,
    CameraSlots: SlotCodec,
    ChunkToken: ChunkCodec,
    ClipStates: ClipStateCodec,
    DiscreteActions: DiscreteActionCodec,
    EmbodiedState: StateCodec,
    FeatureMaps: FeatureMapCodec,
    FlorencePictures: FlorenceCodec,
    FlorenceViews: FlorenceCodec,
    FrameLatents: FrameLatentCodec,
    FrameFeatures: FrameFeatureCodec,
    FramePairs: FramePairCodec,
    FusedPatches: FusedPatchCodec,
    FutureFeatures: FutureFeatureCodec,
    FuturePatches: FuturePatchCodec,
    GoalPercept: GoalPerceptCodec,
    GripperState: GripperStateCodec,
    HandedStates: HandedCodec,
    HeldActions: HeldActionCodec,
    ImageFeatures: ImageFeatureCodec,
    InternPictures: InternPictureCodec,
    KeypointVectors: KeypointCodec,
    LearnedTokens: LearnedCodec,
    MaskedState: MaskedStateCodec,
    MotionClip: MotionClipCodec,
    MotionCodes: MotionCodeCodec,
    Patches: PatchCodec,
    PictureVectors: PictureVectorCodec,
    Percepts: PerceptCodec,
    PlanAnswer: PlanAnswerCodec,
    PooledPatches: PooledPatchCodec,
    PlanQuery: PlanQueryCodec,
    PlanSlots: PlanSlotCodec,
    PlanToken: PlanCodec,
    PromptTokens: PromptCodec,
    Qwen25Pictures: QwenPictureCodec,
    Qwen3Pictures: QwenPictureCodec,
    ReasonFeatures: ReasonCodec,
    Representation: RepresentationCodec,
    ResampledImages: ResampledCodec,
    SceneFeatures: SceneCodec,
    SentenceTokens: SentenceCodec,
    SeenActions: SeenActionCodec,
    ScaledActions: ScaledActionCodec,
    ShuffledPatches: PatchCodec,
    SoftActions: SoftActionCodec,
    SoftPrompts: SoftPromptCodec,
    StateFrame: StateFrameCodec,
    StateToken: StateCodec,
    StepActions: StepActionCodec,
    StepQueries: StepQueryCodec,
    StepSlots: StepSlotCodec,
    StepTokens: StepCodec,
    SubtaskTokens: SubtaskCodec,
    TargetPictures: TargetPictureCodec,
    TextFeatures: TextFeatureCodec,
    TextTokens: TextCodec,
    TimedStates: HandedCodec,
    ToldActions: ToldActionCodec,
    ValueFrame: ValueFrameCodec,
    StackedLatents: StackedCodec,
    VideoLatents: LatentCodec,
}
FEELS = (StateCodec, StateFrameCodec, PromptCodec, GripperStateCodec, PerceptCodec)
"""Codecs that read the state in its own units."""
THROUGH = (ActionFrame, DiscreteActions, FlorenceViews, GoalPercept, StateFrame, SubtaskTokens, ValueFrame)
"""Codecs that have a raw side of their own and share the maps into and out of the tower."""
THROUGH_MODULES = (FrameCodec, DiscreteActionCodec, FlorenceCodec, GoalPerceptCodec, SubtaskCodec)
TOWERS: Mapping[type, tuple[Callable[[Any], nn.Module], Callable[[Any], nn.Module]]] = {
    Adapter: (AdapterFrame, PlainBlock),
    Bart: (BartFrame, BartBlock),
    Classic: (ClassicFrame, ClassicBlock),
    CognitionHead: (CognitionFrame, CognitionBlock),
    Cosmos: (CosmosFrame, CosmosBlock),
    Dit: (DitFrame, DitBlock),
    Foundry: (FoundryFrame, FoundryBlock),
    Gemma: (GemmaFrame, GemmaBlock),
    Gemma3: (Gemma3Frame, Gemma3Block),
    Given: (GivenFrame, nn.Identity),
    Gpt: (GptFrame, GptBlock),
    GrootHead: (GrootFrame, GrootBlock),
    GrootN1Head: (GrootFrame, GrootBlock),
    JepaPredictor: (JepaFrame, JepaBlock),
    Llama: (LlamaFrame, LlamaBlock),
    MimicExpert: (MimicFrame, MimicBlock),
    MolmoExpert: (MolmoFrame, MolmoBlock),
    MotusExpert: (MotusFrame, MotusBlock),
    Placed: (PlacedFrame, PlainBlock),
    Plain: (PlainFrame, PlainBlock),
    Qwen: (QwenFrame, QwenBlock),
    SmolExpert: (SmolFrame, SmolBlock),
    Wan: (WanFrame, WanBlock),
}
BY_LAYER = (Gemma3, Qwen, SmolExpert)
"""Towers whose layers are not all alike."""


def build(recipe: Recipe, space: ActionSpace, *, seed: int) -> StreamPolicy:
    """A policy with freshly initialised weights; the same seed gives the same weights."""
    recipe.validate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_net(recipe.stage)
    return StreamPolicy(recipe, net, space)


def build_net(stage: Stage) -> StreamNet:
    """The network of one stage."""
    layout = stage.layout
    specs = {tower.name: tower.spec for tower in stage.towers}
    codecs = {
        stream.name: CODECS[type(stream.codec)](stream.codec, specs[stream.tower].width)
        for stream in sorted(stage.streams, key=lambda stream: stream.name)
        if stream.shares is None or isinstance(stream.codec, THROUGH)
    }
    for stream in stage.streams:
        codec = codecs.get(stream.name)
        if isinstance(stream.codec, THROUGH) and isinstance(codec, THROUGH_MODULES):
            assert stream.shares is not None, f"stream {stream.name}: validate() should have asked for what it shares"
            codec.through(codecs[stream.shares])
        if isinstance(codec, HandedCodec):
            codec.through([codecs[layout.groups[source].stream.name] for source in codec.spec.sources])
        if isinstance(codec, MotionCodeCodec):
            assert stream.labelled_by is not None, f"stream {stream.name}: validate() should have asked for its labels"
            codec.labelled(codecs[stream.labelled_by])
    joints = [_joint(layout, names, specs) for names in layout.joints()]
    return StreamNet(layout=layout, sequence=stage.sequence, codecs=codecs, joints=joints)


def _frame(spec: Any) -> nn.Module:
    return spec.frame() if isinstance(spec, ForwardTower) else TOWERS[type(spec)][0](spec)


def _block(spec: Any, layer: int) -> nn.Module:
    block: Callable[..., nn.Module] = TOWERS[type(spec)][1]
    return block(spec, layer) if isinstance(spec, BY_LAYER) else block(spec)


def _joint(layout: Layout, names: frozenset[str], specs: Mapping[str, Any]) -> Joint:
    geometry = specs[min(names)].geometry
    frames = {name: _frame(specs[name]) for name in sorted(names)}
    layers = [
        JointLayer({name: _block(specs[name], layer) for name in sorted(names)}) for layer in range(geometry.depth)
    ]
    modulators = {}
    for edge in layout.edges:
        dst, src = layout.groups[edge.dst].tower, layout.groups[edge.src].tower
        if edge.via == "modulate" and dst in names:
            told = nn.Linear(specs[src].width, specs[dst].width)
            nn.init.zeros_(told.weight)
            nn.init.zeros_(told.bias)
            modulators[f"{dst}__{edge.src.replace('.', '_')}"] = told
    tapped = {
        tap
        for group in layout.groups.values()
        if isinstance(codec := group.stream.codec, HandedStates) and layout.groups[codec.sources[0]].tower in names
        for tap in codec.taps
    }
    short = {name: specs[name] for name in sorted(names) if isinstance(specs[name], Gemma3)}
    return Joint(
        layout=layout,
        towers=names,
        geometry=geometry,
        frames=frames,
        layers=layers,
        modulators=modulators,
        tapped=frozenset(tapped),
        reach={name: tuple(map(spec.reach_of, range(spec.depth))) for name, spec in short.items()},
    )


def fit_normalisers(
    policy: StreamPolicy, *, state: Statistics | None, actions: Statistics | None, robot: str | None = None
) -> None:
    """Set the policy's normalisers, or those of one robot, from statistics of the labelled frames it may see."""
    for codec in policy.net.codecs.values():
        if isinstance(codec, FEELS) and state is not None:
            codec.normaliser.fit(state, codec.spec.normaliser, robot=robot)
        if isinstance(codec, ACTS) and actions is not None:
            codec.normaliser.fit(actions, codec.spec.normaliser, robot=robot)
        if isinstance(codec, ChunkCodec) and codec.spec.num_state and state is not None:
            codec.state_normaliser.fit(state, codec.spec.normaliser, robot=robot)


def fit_tokenisers(policy: StreamPolicy, chunks: Callable[[], Float[Tensor, "c n a"]]) -> None:
    """Fit what makes tokens of actions, if anything does, on the chunks of the labelled episodes it may see, in
    physical units; normalisers come first."""
    for codec in policy.net.codecs.values():
        if isinstance(codec, DiscreteActionCodec):
            codec.fit(chunks())


def check_space(recipe: Recipe, space: ActionSpace) -> None:
    """Refuse a robot whose sizes or control rate are not the recipe's."""
    window = recipe.window
    pairs = {
        "action size": (window.action_size, space.action_size),
        "state size": (window.num_state, space.num_state),
        "control rate": (window.control_hz, space.control_hz),
    }
    for what, (expected, got) in pairs.items():
        if expected and expected != got:
            raise InputError(
                where=f"recipe {recipe.name!r} on robot {space.robot!r}",
                expected=f"{what} {expected}",
                got=str(got),
                do="Build the recipe for this robot's ActionSpace.",
            )
