"""The sizes of LingBot-VA: the embedded one, and the published one in its RoboTwin configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.recipes import nano
from crossroads.recipes.fast_wam_sizes import WAN_22
from crossroads.towers.given import Given
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class LingBotVaSize:
    """What differs between sizes. ``frames_per_chunk``: latent frames; ``window``: how many chunks, of video and of
    action, a chunk may lie ahead of those it reads (None: any number); ``expert``: the paper's tower of the actions."""

    text: TextTokens | TextFeatures
    text_tower: Plain | Given
    video: VideoLatents
    video_tower: Wan
    expert: Wan
    action: ActionTokens
    frames_per_chunk: int
    window: int | None
    video_shift: float
    action_shift: float
    video_steps: int
    action_steps: int
    backbone: str | None
    departs: tuple[str, ...]


ALWAYS = (
    "The frame of now stands clean before the first chunk and has no actions; published makes it the first frame of "
    "the first chunk, which training noises like any other and acting keeps clean, with zeros for its actions.",
    "The number of frames in a chunk and the window are fixed; published draws them for each batch, from 1 to 4 frames "
    "and from 4 to 64 chunks.",
    "At act time as many chunks are remembered as a training clip holds before its last. Then the oldest is dropped, "
    "and the others are run anew, counted from the frame at its end; if only a part of a chunk is executed, each call "
    "starts anew. Published keeps keys of half the window in chunks of each kind, drops the oldest when that is full, "
    "and counts on; what others had read of those stays.",
    "The video's velocity is not guided at act time; published guides it by 5.",
    "Levels are continuous; published draws them from a table of 1,000. Which samples have a noised history is drawn "
    "for each sample; published draws it for the batch.",
    "Losses are means over all tokens that are valid; published averages each frame first, and the actions' numbers "
    "that a robot has not got are masked one by one.",
    "Executed actions are remembered as they were answered; published is told by its client what was executed.",
    "The paper's training on forward dynamics for asynchronous execution is not there, nor is its fast mode, which "
    "leaves the video partly noised.",
)

NANO_BLOCKS = 3
_frame_s = nano.FUTURE_S[0]
NANO = LingBotVaSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=replace(
        nano.VIDEO,
        future_s=tuple(round(_frame_s * step, 4) for step in range(1, NANO_BLOCKS * len(nano.FUTURE_S) + 1)),
    ),
    video_tower=nano.VIDEO_TOWER,
    expert=replace(
        nano.EXPERT, rotary=nano.VIDEO_TOWER.rotary, context_width=nano.TEXT_TOWER.width, modulated_head=True
    ),
    action=replace(nano.ACTION, num_actions=NANO_BLOCKS * nano.NUM_ACTIONS, per_frame=nano.NUM_ACTIONS, first_place=1),
    frames_per_chunk=nano.VIDEO.num_future,
    window=64,
    video_shift=5.0,
    action_shift=1.0,
    video_steps=nano.DENOISING_STEPS,
    action_steps=nano.DENOISING_STEPS,
    backbone="nano_video",
    departs=(
        *ALWAYS,
        "At nano size chunks of one latent frame and 12 actions, three of each in training, 5 steps for each flow, and "
        "one camera at 64 px.",
        "At nano size the words go through a two-layer encoder trained with the video model.",
        "At nano size the actions are scaled by mean and deviation, not by quantiles.",
    ),
)

PUBLISHED_BLOCKS = 4
PUBLISHED = LingBotVaSize(
    text=TextFeatures(source=WAN_22, width=4096, max_tokens=512),
    text_tower=Given(width=4096),
    video=VideoLatents(  # a canvas of 320 x 384 pixels, 120 tokens
        cameras=("head", "left_wrist", "right_wrist"),
        image_hw=(320, 128),
        future_s=tuple(round(0.08 * step, 4) for step in range(1, PUBLISHED_BLOCKS * 8 + 1)),
        autoencoder=WanAutoencoder(source=WAN_22),
        patch=2,
    ),
    video_tower=Wan(width=3072, mlp=14336, depth=30, heads=24, head_dim=128, rotary=(44, 42, 42), context_width=4096),
    expert=Wan(width=768, mlp=3584, depth=30, heads=24, head_dim=128, rotary=(44, 42, 42), context_width=4096),
    action=ActionTokens(
        num_actions=PUBLISHED_BLOCKS * 32,
        action_size=30,
        control_hz=50.0,
        normaliser="quantile",
        per_frame=16,
        first_place=1,
    ),
    frames_per_chunk=2,
    window=64,
    video_shift=5.0,
    action_shift=1.0,
    video_steps=25,
    action_steps=50,
    backbone=None,
    departs=(
        *ALWAYS,
        "The head's camera stands beside the wrists' on a canvas of the same 120 tokens, not above them.",
        "The control rate (50 Hz here), the length of a training clip (4 chunks here) and the width of the expert's "
        "feed-forward (3584 here, a quarter of the video tower's like its width) are not published.",
        "Weights start at random until the release's are imported (crossroads.recipes.lingbot_va_names); the paper "
        "starts its expert from the video tower's weights, interpolated.",
    ),
)
