"""The sizes of Motus: nano, and what was published for RoboTwin (arXiv 2512.13030; thu-ml/Motus)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.scene import QwenVision, SceneFeatures
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.noise import UniformLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.recipes.fast_wam_sizes import WAN_22
from crossroads.recipes.nano_video import VIDEO_FLOW
from crossroads.towers.gemma import Gemma
from crossroads.towers.given import Given
from crossroads.towers.motus import MotusExpert
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class MotusSize:
    """What differs between sizes. ``image``: what the understanding tower sees; ``*_backbone``: shipped weights."""

    text: TextTokens | TextFeatures
    text_tower: Plain | Given
    video: VideoLatents
    video_tower: Wan
    image: Patches | SceneFeatures
    language: Gemma | MotusExpert
    state: StateToken
    action: ActionTokens
    registers: LearnedTokens
    expert: MotusExpert
    video_flow: Flow
    action_flow: Flow
    denoising_steps: int
    video_backbone: str | None
    language_backbone: str | None
    departs: tuple[str, ...]


CAMERAS, IMAGE_HW, COLUMNS = ("front", "left_wrist", "right_wrist"), (192, 160), 2
PUBLISHED_EXPERT = MotusExpert(width=1024, mlp=4096, depth=30, heads=24, head_dim=128, acts=True, eps=1e-5)

NANO = MotusSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=nano.VIDEO,
    video_tower=nano.VIDEO_TOWER,
    image=nano.IMAGE,
    language=nano.LANGUAGE_TOWER,
    state=replace(nano.STATE, hidden=(32, 64), activation="silu"),
    action=replace(nano.ACTION, hidden=(32, 64), hidden_out=(), activation="silu", first_place=1),
    registers=LearnedTokens(num=4, first_place=1 + nano.NUM_ACTIONS),
    expert=MotusExpert(
        width=128, mlp=864, depth=nano.DEPTH, heads=nano.HEADS, head_dim=nano.HEAD_DIM, acts=True, frequency_width=64
    ),
    video_flow=VIDEO_FLOW,
    action_flow=nano.ACTION_FLOW,
    denoising_steps=nano.DENOISING_STEPS,
    video_backbone="nano_video",
    language_backbone="nano_vlm",
    departs=(
        "At nano size the understanding tower is nano-vlm itself, trained, and it sees the picture alone; published is "
        "an expert over the last states of a frozen Qwen3-VL that has read the words too.",
        "At nano size the noise levels and weights of actions and video are those of all nano arms, and every flow "
        "takes 5 steps instead of 10.",
        "At nano size one camera at 64 px, 4 future frames and 12 actions instead of three, 8 and 16 (paper: 48).",
        "At nano size states and actions are normalised, and the words go through a two-layer encoder trained with the "
        "video model.",
        "One stage of training: no adaptation of the video model first, no latent actions from optical flow.",
    ),
)

PUBLISHED = MotusSize(
    text=TextFeatures(source=WAN_22, width=4096, max_tokens=512),
    text_tower=Given(width=4096),
    video=VideoLatents(  # RoboTwin: 8 frames at 5 Hz on a canvas of 384 x 320 pixels (configs/robotwin.yaml)
        cameras=CAMERAS,
        image_hw=IMAGE_HW,
        columns=COLUMNS,
        future_s=(0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6),
        autoencoder=WanAutoencoder(source=WAN_22),
        patch=2,
    ),
    video_tower=Wan(width=3072, mlp=14336, depth=30, heads=24, head_dim=128, rotary=(44, 42, 42), context_width=4096),
    image=SceneFeatures(
        model=QwenVision(), cameras=CAMERAS, image_hw=IMAGE_HW, columns=COLUMNS, max_words=64, hidden=(512, 512)
    ),
    language=replace(PUBLISHED_EXPERT, width=512, mlp=2048, acts=False),
    state=StateToken(num_state=14, normaliser="none", hidden=(1024, 1024), activation="silu"),
    action=ActionTokens(
        num_actions=16,
        action_size=14,
        control_hz=10.0,
        normaliser="none",
        hidden=(1024, 1024),
        hidden_out=(),
        activation="silu",
        first_place=1,
    ),
    registers=LearnedTokens(num=4, first_place=17),
    expert=PUBLISHED_EXPERT,
    video_flow=Flow(levels=UniformLevels(factor=5.0)),
    action_flow=Flow(levels=UniformLevels(factor=5.0)),
    denoising_steps=10,
    video_backbone=None,
    language_backbone=None,
    departs=(
        "Sizes and levels are the code's: 16 actions at 10 Hz (paper: 48 at 30 Hz) and uniform levels with shift 5 "
        "(paper: logit-normal). Levels are continuous; published draws one of 1,000.",
        "Cameras stand on a canvas of equal tiles, one of them grey; published shows the wrists at half size.",
        "The published mean of the video loss also counts the frame of now, whose error it sets to zero.",
        "Tokens past the end of the vision-language prompt are not read; published reads their states. A prompt of "
        "more than 64 tokens beside the picture's is refused.",
        "Fine-tuning alone: no adaptation of the video model first, no latent actions from optical flow (their stage "
        "has no state and no registers), no LoRA and no longer chunks in a pipeline, which the code has and the paper "
        "has not.",
        "The weights start at random until Motus' are imported.",
    ),
)
