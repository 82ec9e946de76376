"""The sizes of Diffusion Policy: nano, and what was published (arXiv 2303.04137, table 8 and the ``hybrid``
configurations of its code, commit 5ba07ac, for robomimic's pictures)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.bare import BareActions, BareState
from crossroads.codecs.keypoint_vectors import KeypointVectors
from crossroads.codecs.resnet import ResNet
from crossroads.codecs.sentence import SentenceTokens, WordMeans
from crossroads.codecs.steps import Steps
from crossroads.diffusion import Process
from crossroads.recipes import nano
from crossroads.towers.action_transformer import ActionTransformer
from crossroads.towers.action_unet import ActionUNet
from crossroads.towers.observed_steps import ObservedSteps

PROCESS = Process(num_steps=100)


@dataclass(frozen=True, kw_only=True)
class DiffusionPolicySize:
    """What differs between sizes. ``text`` None: no words are read."""

    image: KeypointVectors
    state: BareState
    text: SentenceTokens | None
    action: ActionTokens
    denoiser: ActionUNet | ActionTransformer
    process: Process
    denoising_steps: int
    departs: tuple[str, ...]


IN_COMMON = (
    "Pictures are scaled to the network's size and not changed in training; published crops them, 76 of 84 px, at "
    "random in training. They are normed by ImageNet's mean and deviation; published by the ends of their range.",
    "Training windows begin within their episode; published has one more, in which the first moment stands twice. In "
    "acting it does so here as well, and wherever a caller gives no earlier moment (the server, held-out measures).",
    "Actions behind the end of an episode owe nothing; published learns that the last one is repeated.",
    "How many actions of a chunk are executed is the caller's to say (published 8). All that begin now are answered.",
    "No dropout (published: 0.3 in the transformer's attention), no weight decay of its own for the transformer; the "
    "trainer's optimiser, and its running average of one decay (published: one that rises with the steps).",
)
NANO_DEPARTS = (
    *IN_COMMON,
    "At nano size one camera at 64 px and a residual network of three stages, 16 keypoints; 10 of 100 steps.",
    "At nano size words are told, as the mean of learned vectors, with each observed step; published reads none.",
)
SEEN = ObservedSteps(num=2, cameras=1, image_width=48, state_width=nano.NUM_STATE, words_width=32)
BEFORE_S = (round(1 / nano.CONTROL_HZ, 4),)

NANO = DiffusionPolicySize(
    image=KeypointVectors(
        cameras=nano.CAMERAS,
        image_hw=nano.IMAGE_HW,
        network=ResNet(widths=(16, 32, 64), depths=(1, 1, 1), group=16),
        num_keypoints=16,
        later_s=BEFORE_S,
    ),
    state=BareState(num_state=nano.NUM_STATE, normaliser="min_max", later_s=BEFORE_S),
    text=SentenceTokens(
        source=WordMeans(vocabulary=nano.VOCABULARY, width=32), steps=Steps(num=1, apart_s=1.0, ahead=0)
    ),
    action=BareActions(num_actions=16, action_size=nano.ACTION_SIZE, control_hz=nano.CONTROL_HZ, normaliser="min_max"),
    denoiser=ActionUNet(
        width=nano.ACTION_SIZE,
        num_actions=16,
        channels=(32, 64, 128),
        seen=SEEN,
        level_width=32,
        kernel=5,
        groups=8,
        scaled=True,
    ),
    process=PROCESS,
    denoising_steps=10,
    departs=(*NANO_DEPARTS, "At nano size 32, 64 and 128 channels."),
)

TRANSFORMER_NANO = replace(
    NANO,
    action=ActionTokens(num_actions=13, action_size=nano.ACTION_SIZE, control_hz=nano.CONTROL_HZ, normaliser="min_max"),
    denoiser=ActionTransformer(width=96, depth=4, heads=4, num_actions=13, seen=SEEN),
    departs=(*NANO_DEPARTS, "At nano size 4 layers 96 wide over 13 actions."),
)

CAMERAS, HZ = ("agentview_image", "robot0_eye_in_hand_image"), 20.0
PUBLISHED_SEEN = ObservedSteps(num=2, cameras=2, image_width=64, state_width=9)
PUBLISHED_DEPARTS = (*IN_COMMON, "The weights start at random, as published; no published ones are read.")

PUBLISHED = DiffusionPolicySize(  # robomimic, absolute poses: position, six numbers of rotation, gripper
    image=KeypointVectors(cameras=CAMERAS, image_hw=(76, 76), network=ResNet(group=16), later_s=(1 / HZ,)),
    state=BareState(num_state=9, normaliser="min_max", later_s=(1 / HZ,)),
    text=None,
    action=BareActions(num_actions=16, action_size=10, control_hz=HZ, normaliser="min_max"),
    denoiser=ActionUNet(
        width=10,
        num_actions=16,
        channels=(512, 1024, 2048),
        seen=PUBLISHED_SEEN,
        level_width=128,
        kernel=5,
        groups=8,
        scaled=True,
    ),
    process=PROCESS,
    denoising_steps=100,
    departs=PUBLISHED_DEPARTS,
)

TRANSFORMER_PUBLISHED = replace(
    PUBLISHED,
    action=ActionTokens(num_actions=10, action_size=10, control_hz=HZ, normaliser="min_max"),
    denoiser=ActionTransformer(width=256, depth=8, heads=4, num_actions=10, seen=PUBLISHED_SEEN),
)
