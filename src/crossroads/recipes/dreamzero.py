"""DreamZero: one video model denoises each block of frames together with its actions, after the clean past.

Ye et al. 2026, arXiv 2602.15922; code dreamzero0/dreamzero (Apache-2.0). The clip is present clean and noised: a noised
block reads the frame of now, the clean blocks before it, its own actions and its own state; the clean copy reads the
frame of now and what lies in its window. One call of ``act`` answers one block; what the cameras saw meanwhile is
then committed in place of what had been imagined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.image_features import ImageFeatures
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.noise import BellWeight, UniformLevels
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Phase, Recipe, Stage, Tower
from crossroads.recipes import nano
from crossroads.schedule import Commit, Denoise
from crossroads.solvers import UniPC
from crossroads.streams import CLEAN, NOISED, NOW, Clock, Edge, Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan

WAN_21 = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
SHIFT = 5.0  # of levels in training and at act time


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
    backbone: str | None
    departs: tuple[str, ...]

    @property
    def num_blocks(self) -> int:
        return self.video.num_future // self.frames_per_block


def _clip(num_blocks: int, block_s: float, num_frames: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The times of future frames, so many in each block, and those of the states at the starts of later blocks."""
    future = tuple(round(block_s * step / num_frames, 4) for step in range(1, num_blocks * num_frames + 1))
    return future, tuple(round(block_s * block, 4) for block in range(1, num_blocks))


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
        hidden=(64,),
        activation="relu",
        level_in_codec=True,
        timesteps=True,
    ),
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_video",
    departs=(
        "At nano size 3 blocks of one latent frame and 12 actions instead of 4 of 2 and 24, 5 steps instead of 16, one "
        "camera at 64 px, and neither CLIP's tokens nor channels of the first frame beside the latent.",
        "At nano size the words go through a two-layer encoder trained with the video model.",
        "At nano size the state and the actions are scaled by mean and deviation, not by quantiles.",
    ),
)
DROID = ("wrist", "left", "right")
PUBLISHED_FUTURE_S, PUBLISHED_LATER_S = _clip(4, 1.6, 8)
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
        hidden=(1024,),
        activation="relu",
        level_in_codec=True,
        timesteps=True,
    ),
    denoising_steps=16,
    backbone=None,
    departs=(),
)


def dreamzero(size: DreamZeroSize = NANO) -> Recipe:
    """DreamZero at one of its sizes."""
    per_frame = size.video.num_tokens("now")
    window = size.local_frames / size.frames_per_block - 1
    flow = Flow(levels=UniformLevels(factor=SHIFT), level_weight=BellWeight(factor=SHIFT))
    contexts = ("text",) if size.image is None else ("text", "image")
    groups = ("video.now", "video.clean", "video", "action", "state")
    extra = () if size.image is None else (Stream(name="image", carries="image", codec=size.image, tower="image"),)
    towers = () if size.image is None else (Tower(name="image", spec=Given(width=size.image.width)),)
    return Recipe(
        name="dreamzero",
        paper="Ye et al. 2026, arXiv 2602.15922",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                *extra,
                Stream(name="state", carries="state", codec=size.state, tower="video", told="action"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video",
                    views=(NOW, NOISED, CLEAN),
                    objective=flow,
                ),
                Stream(
                    name="action", carries="action", codec=size.action, tower="video", views=(NOISED,), objective=flow
                ),
            ),
            edges=(
                *(edge for name in contexts for edge in reads(name, name)),
                *reads("video.now", "video.now"),
                *reads("video.clean", "video.now"),
                Edge(dst="video.clean", src="video.clean", when="upto", window=window),
                *(edge for name in ("video", "action") for edge in _denoised(name)),
                *reads("state", "state", when="same"),
                *(edge for name in groups for edge in reads(name, *contexts, via="cross")),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                *towers,
                Tower(name="video", spec=size.video_tower, backbone=size.backbone),
            ),
            schedule=(
                Commit(stream="video", observed=True),
                Denoise(streams=("video", "action"), solver=UniPC(steps=size.denoising_steps, factor=SHIFT)),
            ),
            clock=Clock(
                block_s=size.action.num_actions / size.action.control_hz / size.num_blocks,
                tokens_per_block=(
                    ("video", size.frames_per_block * per_frame),
                    ("action", size.action.num_actions // size.num_blocks),
                    ("state", 1),
                ),
            ),
            sequence=("text",),
            coupled=(("video", "action"),),
        ),
        phases=(Phase(name="full", trains=("video",), losses=("video", "action")),),
        axes=Axes(paradigm="joint_prediction", architecture="monolithic", integration="tokens"),
        departs=size.departs,
    )


def _denoised(name: str) -> tuple[Edge, ...]:
    """What a block of noised frames or actions reads."""
    return (
        *reads(name, "video.now"),
        *reads(name, "video.clean", when="past"),
        *reads(name, "video", "action", "state", when="same"),
    )


def as_served(recipe: Recipe) -> Recipe:
    """The edges of the published server, which are not those of its training: it keeps keys of the last
    ``local_frames`` alone, the frame of now and what is being denoised included, and the state reads all of them."""
    window = next(edge.window for edge in recipe.stage.edges if edge.window is not None)
    edges = [edge for edge in recipe.stage.edges if edge.via == "cross" or edge.src in ("text", "image")]
    edges += [
        *reads("video.now", "video.now"),
        Edge(dst="video.clean", src="video.clean", when="upto", window=window),
    ]
    for name in ("video.clean", "video", "action", "state"):
        edges.append(Edge(dst=name, src="video.now", when="past", window=window))
    for name in ("video", "action", "state"):
        edges.append(Edge(dst=name, src="video.clean", when="past", window=window))
        edges += reads(name, "video", "action", "state", when="same")
    return replace(recipe, name="dreamzero_as_served", stage=replace(recipe.stage, edges=tuple(edges)))
