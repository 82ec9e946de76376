"""GigaWorld-Policy 0.5: the future is predicted from the actions, never the actions from the future.

GigaWorld-Policy (arXiv 2603.17240) and its 0.5 report (arXiv 2607.13960), code open-gigaai/giga-world-policy: a video
model and an action expert share each softmax. State and the frame of now read each other, actions read both, the
future reads everything; so the future may be left out at act time, and what actions read is cached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.noise import UniformLevels
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.recipes.fast_wam_sizes import WAN_22
from crossroads.recipes.nano_video import VIDEO_FLOW
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class GigaWorldSize:
    """What differs between sizes. ``action_shift``: of the grid of levels at act time."""

    text: TextTokens | TextFeatures
    text_tower: Plain | Given
    video: VideoLatents
    video_tower: Wan
    state: StateToken
    action: ActionTokens
    expert: Wan
    video_flow: Flow
    action_flow: Flow
    action_shift: float
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


NANO = GigaWorldSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=nano.VIDEO,
    video_tower=nano.VIDEO_TOWER,
    state=replace(nano.STATE, hidden=(32, 64)),
    action=replace(nano.ACTION, hidden=(32, 64), first_place=1),
    expert=replace(nano.EXPERT, context_width=nano.TEXT_TOWER.width, modulated_head=True),
    video_flow=VIDEO_FLOW,
    action_flow=nano.ACTION_FLOW,
    action_shift=1.0,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_video",
    departs=(
        "At nano size the noise levels of actions and video are those of all nano arms, every flow takes 5 steps "
        "instead of 10, and there is one robot, so no bank of weights per robot.",
        "At nano size one camera at 64 px, 4 future frames and 12 actions instead of 48.",
        "At nano size the words go through a two-layer encoder trained with the video model.",
        "The expert starts from random weights, not from leading slices of the video tower's.",
    ),
)

PUBLISHED = GigaWorldSize(
    text=TextFeatures(source=WAN_22, width=4096, max_tokens=512),
    text_tower=Given(width=4096),
    video=VideoLatents(  # frames 0, 12, 24, 36, 48 of a chunk of 48 actions; a canvas of 320 x 384 pixels
        cameras=("front", "left_wrist", "right_wrist"),
        image_hw=(320, 128),
        future_s=(0.4, 0.8, 1.2, 1.6),
        autoencoder=WanAutoencoder(source=WAN_22),
        patch=2,
    ),
    video_tower=Wan(width=3072, mlp=14336, depth=30, heads=24, head_dim=128, rotary=(44, 42, 42), context_width=4096),
    state=StateToken(num_state=14, hidden=(128, 256), robots=("two_arms",)),
    action=ActionTokens(
        num_actions=48, action_size=14, control_hz=30.0, hidden=(128, 256), robots=("two_arms",), first_place=1
    ),
    expert=Wan(width=1024, mlp=4096, depth=30, heads=24, head_dim=128, rotary=(128,), context_width=4096),
    video_flow=Flow(levels=UniformLevels(factor=2.0)),
    action_flow=Flow(levels=UniformLevels(factor=5.0)),
    action_shift=5.0,
    denoising_steps=10,
    backbone=None,
    departs=(
        "The front camera stands beside the wrists on a canvas of the same 120 tokens, not above them.",
        "The control rate (30 Hz here) and the robot's sizes (14 here, two arms with grippers) are not published.",
        "Levels are continuous; published rounds them to thousandths. The published mean of the video loss also counts "
        "the frame of now, whose error it sets to zero.",
        "Published 0.5 pretraining mixes in samples whose actions are given clean; here all are noised.",
    ),
)


def gigaworld_policy(size: GigaWorldSize = NANO) -> Recipe:
    """GigaWorld-Policy 0.5 at one of its sizes."""
    groups = ("state", "video.now", "action", "video")
    return Recipe(
        name="gigaworld_policy",
        paper="GigaWorld-Policy, arXiv 2603.17240; 0.5: arXiv 2607.13960",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                Stream(name="state", carries="state", codec=size.state, tower="expert"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video",
                    views=(NOW, NOISED),
                    objective=size.video_flow,
                ),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="expert",
                    views=(NOISED,),
                    objective=size.action_flow,
                ),
            ),
            edges=(
                *reads("text", "text"),
                *reads("state", "state", "video.now"),
                *reads("video.now", "state", "video.now"),
                *reads("action", "state", "video.now", "action"),
                *reads("video", *groups),
                *(edge for group in groups for edge in reads(group, "text", via="cross")),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                Tower(name="video", spec=size.video_tower, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(
                Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps, factor=size.action_shift)),
            ),
            sequence=("text",),
        ),
        # No phase trains the expert alone: the frame of now reads the state, so no video state is fixed.
        phases=(Phase(name="full", trains=("video", "expert"), losses=("video", "action")),),
        axes=Axes(paradigm="representation_only", architecture="mixture_of_transformers", integration="tokens"),
        departs=size.departs,
    )
