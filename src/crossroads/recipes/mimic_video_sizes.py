"""The sizes of mimic-video: nano, and what was published for LIBERO (arXiv 2512.15692; code read in its forks)."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.mimic_ends import MaskedState, ScaledActions
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.noise import BetaLevels, EdmLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.recipes.nano_video import VIDEO_FLOW
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.mimic import MimicExpert
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan

COSMOS_2 = "nvidia/Cosmos-Predict2-2B-Video2World"


@dataclass(frozen=True, kw_only=True)
class MimicVideoSize:
    """What differs between sizes.

    ``tap``: the layer of the video model after which the actions read. ``sees_ahead``: the tokens of the frame of now
    read those of the future beside them. ``video_steps`` and ``shift``: of the walk of the video, where it is walked.
    """

    text: TextTokens | TextFeatures
    text_tower: Plain | Given
    video: VideoLatents
    video_tower: Wan | Cosmos
    tap: int
    sees_ahead: bool
    state: MaskedState
    action: ScaledActions
    expert: MimicExpert
    video_flow: Flow
    action_flow: Flow
    video_steps: int
    shift: float
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


IN_COMMON = (
    "The frame of now alone is seen and told level 0; published sees the last five and tells them 0.0001.",
    "All weights of the video model learn in the phase `full`, beside the actions, whose loss does not reach them; "
    "published first learns a change of rank 256 of them (LoRA), then the actions on what that gives.",
    "What tells the norms starts small; published starts it from exactly nothing.",
    "The video is walked to its level by Euler's steps; published by second-order steps in the logarithm of the noise.",
)

NANO = MimicVideoSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=nano.VIDEO,
    video_tower=nano.VIDEO_TOWER,
    tap=3,
    sees_ahead=False,
    state=MaskedState(num_state=nano.NUM_STATE, hidden=(24,)),
    action=ScaledActions(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        hidden=(24,),
        hidden_out=(),
        first_place=1,
    ),
    expert=MimicExpert(
        width=128,
        mlp=512,
        depth=4,
        heads=4,
        context_width=nano.VIDEO_TOWER.width,
        num_places=1 + nano.NUM_ACTIONS,
        modulation_width=32,
    ),
    video_flow=VIDEO_FLOW,
    action_flow=nano.ACTION_FLOW,
    video_steps=nano.DENOISING_STEPS,
    shift=5.0,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_video",
    departs=(
        *IN_COMMON,
        "At nano size the video model is a Wan of 6 layers, tapped after the fourth, in which the frame of now reads "
        "itself alone, as it was pretrained; its levels are those of all nano arms.",
        "At nano size one camera at 64 px, 4 future frames and 12 actions; acting takes 5 steps instead of 10.",
        "At nano size the words go through a two-layer encoder trained with the video model.",
    ),
)

PUBLISHED = MimicVideoSize(
    text=TextFeatures(source="google-t5/t5-11b", width=1024, max_tokens=512),
    text_tower=Given(width=1024),
    video=VideoLatents(  # 61 frames at 5 Hz
        cameras=("front",),
        image_hw=(480, 640),
        future_s=tuple(round(0.2 * step, 1) for step in range(1, 61)),
        autoencoder=WanAutoencoder(source=COSMOS_2, channels=16, space_factor=8),
        patch=2,
        marked=True,
    ),
    video_tower=Cosmos(width=2048, mlp=8192, depth=28, heads=16, head_dim=128, rotary=(44, 42, 42), context_width=1024),
    tap=19,
    sees_ahead=True,
    state=MaskedState(num_state=10, hidden=(47, 220)),
    action=ScaledActions(
        num_actions=60, action_size=10, control_hz=20.0, hidden=(47, 220), hidden_out=(), first_place=1
    ),
    expert=MimicExpert(width=1024, mlp=4096, depth=24, heads=8, context_width=2048, num_places=61),
    video_flow=Flow(
        levels=EdmLevels(log_mean=0.0, log_std=1.0, even_share=0.05, even=(50.0, 25000.0), limits=(0.0, 1e6), scale=4.0)
    ),
    action_flow=Flow(levels=BetaLevels()),
    video_steps=35,
    shift=1.0,
    denoising_steps=10,
    backbone=None,
    departs=(
        *IN_COMMON,
        "Above the bell, scales of 200 to 100,000 are drawn evenly, not evenly in their logarithm (levels from 0.995).",
        "The weights start at random until Cosmos-Predict2-2B's are imported.",
    ),
)
