"""The sizes of DreamZero: nano, and what was published for DROID (arXiv 2602.15922; configs of the Apache-2.0 code).
``FLASH_NANO`` and ``FLASH_PUBLISHED`` are those of its few-step variant."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.image_features import ImageFeatures
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.recipes import nano
from crossroads.schedule import Guidance
from crossroads.solvers import Skipping
from crossroads.towers.given import Given
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan

WAN_21 = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
NEGATIVE = (  # Wan's negative prompt in DreamZero's words (transform/dreamzero_cotrain.py)
    "Vibrant colors, overexposed, static, blurry details, text, subtitles, style, artwork, painting, image, still, "
    "grayscale, dull, worst quality, low quality, JPEG artifacts, ugly, mutilated, extra fingers, bad hands, bad face, "
    "deformed, disfigured, mutated limbs, fused fingers, stagnant image, cluttered background, three legs, many people "
    "in the background, walking backwards."
)
SHIFT = 5.0  # of levels in training and at act time
SKIPPING = {  # by how many of 16 steps run the network (the code's NUM_DIT_STEPS, 8 where nothing is set)
    5: Skipping(evaluated=(0, 1, 2, 7, 12)),
    6: Skipping(evaluated=(0, 1, 5, 10, 14, 15)),
    7: Skipping(evaluated=(0, 1, 2, 6, 10, 14, 15)),
    8: Skipping(evaluated=(0, 1, 2, 6, 10, 13, 14, 15)),
}


@dataclass(frozen=True, kw_only=True)
class DreamZeroSize:
    """What differs between sizes. ``image``: CLIP's tokens of the frame of now, read across like the words.

    ``frames_per_block``: latent frames; ``local_frames``: how many of them, up to the end of its block, a clean frame
    reads beside the frame of now.
    """

    text: TextTokens | TextFeatures
    text_tower: Plain | Given
    image: ImageFeatures | None
    video: VideoLatents
    video_tower: Wan
    frames_per_block: int
    local_frames: int
    state: StateToken
    action: ActionTokens
    denoising_steps: int
    skipping: Skipping | None
    guidance: Guidance | None
    backbone: str | None
    departs: tuple[str, ...]

    @property
    def num_blocks(self) -> int:
        return self.video.num_future // self.frames_per_block


def _clip(num_blocks: int, block_s: float, num_frames: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The times of future frames, so many in each block, and those of the states at the starts of later blocks."""
    future = tuple(round(block_s * step / num_frames, 4) for step in range(1, num_blocks * num_frames + 1))
    return future, tuple(round(block_s * block, 4) for block in range(1, num_blocks))


ALWAYS = (
    "The frame of now is not learned itself; published denoises it too, as a block that reads itself alone and that "
    "nobody reads, one of the 9 frames in the mean of the video loss.",
    "Levels are continuous; published draws them from a table of 1,000 and cuts them to thousandths at act time. The "
    "mean of the action loss is over valid actions; published counts the others as zeros.",
    "Acting reads by the edges of training. The published server keeps keys of its window alone, the frame of now not "
    "excepted, and its state reads everything (`as_served`).",
    "What was observed is encoded behind all frames since the first, as in training; the published server encodes the "
    "newest block behind a copy of its first frame.",
    "Acting goes on only from blocks that were executed to their end, with frames at the times of training; published "
    "executes 8 of 24 actions in its evaluation, and takes the last 4 frames that it was sent for those of a block.",
)
EXECUTED = (
    "Actions are as recorded and are executed as they come; published takes joints relative to the state at the start "
    "of a block, and smooths (Savitzky-Golay)."
)
FLASH = (
    "The actions of a block have one level in training; published draws one for each action.",
    "The video's levels are Beta(7, 1), the paper's, in training; the code's default is Beta(3, 1). When acting it "
    "stops at 0.8, which the code does where `decouple_inference_noise` is set.",
)


def _of_nano(steps: str) -> tuple[str, ...]:
    """What both recipes depart in at nano size, where they take other numbers of steps."""
    return (
        "At nano size the video's velocity is not guided: the backbone has not learned to answer without words.",
        f"At nano size 3 blocks of one latent frame and 12 actions instead of 4 of 2 and 24, {steps}, one "
        "camera at 64 px, and neither CLIP's tokens nor channels of the first frame beside the latent.",
        "At nano size the words go through a two-layer encoder trained with the video model.",
        "At nano size the state and the actions are scaled by mean and deviation, not by quantiles.",
    )


NANO_BLOCKS = 3
NANO_FUTURE_S, NANO_LATER_S = _clip(NANO_BLOCKS, nano.NUM_ACTIONS / nano.CONTROL_HZ, len(nano.FUTURE_S))
NANO = DreamZeroSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    image=None,
    video=replace(nano.VIDEO, future_s=NANO_FUTURE_S),
    video_tower=nano.VIDEO_TOWER,
    frames_per_block=nano.VIDEO.num_future,
    local_frames=NANO_BLOCKS * nano.VIDEO.num_future + 1,
    state=replace(nano.STATE, hidden=(64,), activation="relu", later_s=NANO_LATER_S),
    action=replace(
        nano.ACTION,
        num_actions=NANO_BLOCKS * nano.NUM_ACTIONS,
        hidden_out=(64,),
        activation="relu",
        level_in_codec=True,
        timesteps=True,
    ),
    denoising_steps=nano.DENOISING_STEPS,
    skipping=None,
    guidance=None,
    backbone="nano_video",
    departs=(
        *ALWAYS,
        EXECUTED + " Every step runs the network; published may reuse velocities.",
        *_of_nano("5 steps instead of 16"),
    ),
)
FLASH_NANO = replace(
    NANO,
    denoising_steps=2,
    departs=(
        *ALWAYS,
        EXECUTED,
        *FLASH,
        *_of_nano("2 steps instead of 1"),
        "UniPC corrects the video in the actions' levels; published corrects it in its own.",
    ),
)
DROID = ("wrist", "left", "right")
PUBLISHED_FUTURE_S, PUBLISHED_LATER_S = _clip(4, 1.6, 8)
OF_DROID = (
    "Weights start at random until Wan's or DreamZero's are imported (crossroads.recipes.names).",
    "Sizes are DROID's (8 numbers of state, 8 of an action); published pads them to 64 and 32.",
    "The wrist's view stands at its own width beside grey; published stretches it over both columns. The prompt is "
    "the instruction alone; published puts it into a description of the canvas.",
)
PUBLISHED = DreamZeroSize(  # DROID: three views on a canvas of 352 x 640 pixels
    text=TextFeatures(source=WAN_21, width=4096, max_tokens=512),
    text_tower=Given(width=4096),
    image=ImageFeatures(source=WAN_21, width=1280, num_tokens_read=257, cameras=DROID, image_hw=(176, 320), columns=2),
    video=VideoLatents(
        cameras=DROID,
        image_hw=(176, 320),
        future_s=PUBLISHED_FUTURE_S,
        autoencoder=WanAutoencoder(source=WAN_21, channels=16, space_factor=8),
        patch=2,
        beside=20,
        columns=2,
    ),
    video_tower=Wan(
        width=5120,
        mlp=13824,
        depth=40,
        heads=40,
        head_dim=128,
        rotary=(44, 42, 42),
        context_width=4096,
        image_width=1280,
    ),
    frames_per_block=2,
    local_frames=9,
    state=StateToken(num_state=8, normaliser="quantile", hidden=(1024,), activation="relu", later_s=PUBLISHED_LATER_S),
    action=ActionTokens(
        num_actions=96,
        action_size=8,
        control_hz=15.0,
        normaliser="quantile",
        hidden_out=(1024,),
        activation="relu",
        level_in_codec=True,
        timesteps=True,
    ),
    denoising_steps=16,
    skipping=SKIPPING[8],
    guidance=Guidance(streams=("video",), scale=5.0, words=NEGATIVE),
    backbone=None,
    departs=(*ALWAYS, EXECUTED, *OF_DROID),
)
FLASH_PUBLISHED = replace(PUBLISHED, denoising_steps=1, skipping=None, departs=(*ALWAYS, EXECUTED, *FLASH, *OF_DROID))
