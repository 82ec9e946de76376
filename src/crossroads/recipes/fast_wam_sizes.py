"""The sizes of Fast-WAM: nano, and what was published for LIBERO (arXiv 2603.16666; configs of the MIT code)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.noise import BellWeight, UniformLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.recipes.nano_video import VIDEO_FLOW
from crossroads.towers.given import Given
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan

WAN_22 = "Wan-AI/Wan2.2-TI2V-5B-Diffusers"


@dataclass(frozen=True, kw_only=True)
class FastWamSize:
    """What differs between sizes of Fast-WAM.

    ``state_in_expert``: the state is a token of the expert's own sequence; otherwise it is appended to the words that
    both towers read. ``*_shift``: of the grid of levels at act time. ``backbone``: shipped weights of video and words.
    """

    text: TextTokens | TextFeatures
    text_tower: Plain | Given
    video: VideoLatents
    video_tower: Wan
    state: StateToken
    state_in_expert: bool
    action: ActionTokens
    expert: Wan
    video_flow: Flow
    video_shift: float
    action_flow: Flow
    action_shift: float
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


NANO = FastWamSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=nano.VIDEO,
    video_tower=nano.VIDEO_TOWER,
    state=nano.STATE,
    state_in_expert=True,
    action=nano.ACTION,
    expert=replace(nano.EXPERT, context_width=nano.TEXT_TOWER.width),
    video_flow=VIDEO_FLOW,
    video_shift=5.0,
    action_flow=nano.ACTION_FLOW,
    action_shift=1.0,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_video",
    departs=(
        "At nano size the robot state is a token of the expert's own sequence, as in pi0, instead of one more context "
        "token of both towers: the video tower's pretraining clips have no state.",
        "At nano size the action's noise levels are pi0's (Beta 1.5, 1; even weight; no shift at act time), shared by "
        "all arms, and every flow takes 5 steps instead of 10.",
        "At nano size one camera at 64 px, 4 future frames and 12 actions instead of two at 224 px, 8 and 32.",
        "At nano size the words go through a two-layer encoder trained with the video model, and padding is not read; "
        "published is a frozen UMT5 whose padding is read as zeros.",
        "The expert starts from random weights, not from interpolated weights of the video tower.",
    ),
)

PUBLISHED = FastWamSize(
    text=TextFeatures(
        source=WAN_22,
        width=4096,
        max_tokens=128,
        template="A video recorded from a robot's point of view executing the following instruction: {task}",
    ),
    text_tower=Given(width=4096),
    video=VideoLatents(  # 33 control steps at LIBERO's 20 Hz, every fourth a frame
        cameras=("front", "wrist"),
        image_hw=(224, 224),
        future_s=tuple(round(0.2 * step, 1) for step in range(1, 9)),
        autoencoder=WanAutoencoder(source=WAN_22, channels=48, space_factor=16),
        patch=2,
    ),
    video_tower=Wan(width=3072, mlp=14336, depth=30, heads=24, head_dim=128, rotary=(44, 42, 42), context_width=4096),
    state=StateToken(num_state=8, normaliser="min_max"),
    state_in_expert=False,
    action=ActionTokens(num_actions=32, action_size=7, control_hz=20.0, normaliser="min_max"),
    expert=Wan(
        width=1024,
        mlp=4096,
        depth=30,
        heads=24,
        head_dim=128,
        rotary=(128,),
        context_width=4096,
        modulated_head=False,
    ),
    video_flow=Flow(levels=UniformLevels(factor=5.0), level_weight=BellWeight(factor=5.0)),
    video_shift=5.0,
    action_flow=Flow(levels=UniformLevels(factor=5.0), level_weight=BellWeight(factor=5.0)),
    action_shift=5.0,
    denoising_steps=10,
    backbone=None,
    departs=(
        "Weights start at random until Wan's or Fast-WAM's are imported (crossroads.recipes.names); published, the "
        "expert starts from interpolated weights of the video tower.",
        "In the form that imagines first, the noised and the clean copy of the future share one set of tokens of the "
        "frame of now; published has two sets that hold the same numbers.",
        "An instruction of more than 128 tokens is refused, not cut off; text is not cleaned of broken Unicode first.",
    ),
)
