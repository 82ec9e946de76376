"""Cosmos Policy: a video model becomes a policy without a change of architecture.

Kim et al. 2026, arXiv 2601.16163, code NVlabs/cosmos-policy (Apache-2.0). State, actions, future state and value are
latent frames of the clip. Everything reads everything at one noise level; what is given clean says which question is
answered: policy (the observation), world model (and the actions), value (and the future). Planning asks all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from crossroads.codecs.frames import ActionFrame, StateFrame, ValueFrame
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.slots import CameraSlots
from crossroads.codecs.text import TextTokens
from crossroads.codecs.video_autoencoder import NanoAutoencoder
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.noise import EdmLevels
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Branch, Denoise, Leg, Rank
from crossroads.solvers import ExponentialMultistep
from crossroads.stage import Mode, Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Stream, reads
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class CosmosPolicySize:
    """What differs between sizes. ``slots``: latent frames of state, actions, future state and value in the clip.

    ``plan``: candidates, futures of each and values of each future when planning.
    """

    text: TextTokens | TextFeatures
    text_tower: Plain | Given
    video: CameraSlots
    tower: Wan | Cosmos
    slots: tuple[int, int, int, int]
    num_state: int
    num_actions: int
    action_size: int
    control_hz: float
    steps: int
    plan: tuple[int, int, int]
    backbone: str | None
    departs: tuple[str, ...]


SHARED = (
    "World model and value learn from demonstrations, all of which succeed; published uses the policy's own rollouts, "
    "half of them failures, for half of each batch.",
    "Values of a candidate are averaged; the published majority mean and clipping are not described.",
    "The first latent and those of the other streams are filled, for decoding pictures, from a blank clip.",
    "Pictures are neither recompressed nor flipped.",
)
NANO = CosmosPolicySize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=CameraSlots(
        cameras=nano.CAMERAS,
        image_hw=nano.IMAGE_HW,
        after_s=nano.NUM_ACTIONS / nano.CONTROL_HZ,
        now=(2,),
        future=(5,),
        autoencoder=NanoAutoencoder(),
    ),
    tower=nano.VIDEO_TOWER,
    slots=(1, 3, 4, 6),
    num_state=nano.NUM_STATE,
    num_actions=nano.NUM_ACTIONS,
    action_size=nano.ACTION_SIZE,
    control_hz=nano.CONTROL_HZ,
    steps=nano.DENOISING_STEPS,
    plan=(2, 2, 2),
    backbone="nano_video",
    departs=(
        *SHARED,
        "At nano size the tower is the shipped video model's (Wan's blocks, told what is clean by its level alone), "
        "with one camera at 64 px and 12 actions; planning has 2 candidates, 2 futures and 2 values.",
    ),
)
PUBLISHED = CosmosPolicySize(  # LIBERO
    text=TextFeatures(source="google-t5/t5-11b", width=1024, max_tokens=512),
    text_tower=Given(width=1024),
    video=CameraSlots(
        cameras=("wrist", "primary"),
        image_hw=(224, 224),
        after_s=16 / 20,
        now=(2, 3),
        future=(6, 7),
        autoencoder=WanAutoencoder(source="nvidia/Cosmos-Predict2-2B-Video2World", channels=16, space_factor=8),
        patch=2,
        marked=True,
    ),
    tower=Cosmos(width=2048, mlp=8192, depth=28, heads=16, head_dim=128, rotary=(44, 42, 42), context_width=1024),
    slots=(1, 4, 5, 8),
    num_state=9,
    num_actions=16,
    action_size=7,
    control_hz=20.0,
    steps=5,
    plan=(8, 3, 5),
    backbone=None,
    departs=(*SHARED, "The time after which the future is shown is taken to be the chunk's 16 steps at 20 Hz."),
)


def cosmos_policy(size: CosmosPolicySize = NANO) -> Recipe:
    """Cosmos Policy at one of its sizes: actions, future and value together."""
    return _recipe("cosmos_policy", size, (_denoise(size, "action", *FUTURE),))


def cosmos_policy_planning(size: CosmosPolicySize = NANO) -> Recipe:
    """The same weights, asked in turn for actions, for what comes of them and for what that is worth: best of N."""
    num = dict(zip(("actions", "futures", "values"), size.plan, strict=True))
    legs = (
        *(Branch(num=num["actions"]), _denoise(size, "action", *FUTURE)),
        *(Branch(num=num["futures"]), _denoise(size, *FUTURE)),
        *(Branch(num=num["values"]), _denoise(size, "value"), Rank(stream="value")),
    )
    return _recipe("cosmos_policy_planning", size, legs)


FUTURE = ("future_state", "value", "video")


def _denoise(size: CosmosPolicySize, *streams: str) -> Denoise:
    return Denoise(streams=streams, solver=ExponentialMultistep(steps=size.steps))


def _recipe(name: str, size: CosmosPolicySize, schedule: tuple[Leg, ...]) -> Recipe:
    groups = ("state", "video.now", "action", *FUTURE)
    num_frames = 1 + max(*size.slots, *size.video.future)
    after_s, frames = size.video.after_s, [size.video.frame(slot) for slot in size.slots]

    def flow(num: int) -> Flow:
        """The published loss: 10 times the mean over all latent frames; its weights make the error that of velocity."""
        return Flow(levels=EdmLevels(scale=math.sqrt(num_frames)), weight=10 * num / num_frames)

    codecs = {
        "action": ActionFrame(
            frame=frames[1], num_actions=size.num_actions, action_size=size.action_size, control_hz=size.control_hz
        ),
        "future_state": StateFrame(frame=frames[2], num_state=size.num_state, after_s=after_s),
        "value": ValueFrame(frame=frames[3], after_s=after_s),
    }
    carried = {"action": "action", "future_state": "state", "value": "value"}
    state = StateFrame(frame=frames[0], num_state=size.num_state)
    return Recipe(
        name=name,
        paper="Kim et al. 2026, arXiv 2601.16163",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video",
                    views=(NOW, NOISED),
                    objective=flow(len(size.video.cameras)),
                ),
                Stream(name="state", carries="state", codec=state, tower="video", shares="video"),
                *(
                    Stream(
                        name=name,
                        carries=carried[name],  # pyright: ignore[reportArgumentType]
                        codec=codec,
                        tower="video",
                        views=(NOISED,),
                        objective=flow(1),
                        shares="video",
                    )
                    for name, codec in codecs.items()
                ),
            ),
            edges=(
                *reads("text", "text"),
                *(edge for group in groups for edge in reads(group, *groups)),
                *(edge for group in groups for edge in reads(group, "text", via="cross")),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                Tower(name="video", spec=size.tower, backbone=size.backbone),
            ),
            schedule=schedule,
            sequence=("text",),
            coupled=(("action", *FUTURE),),
        ),
        phases=(
            Phase(
                name="full",
                trains=("video",),
                losses=("action", *FUTURE),
                modes=(
                    Mode(name="world model", share=0.25, given=("action",)),
                    Mode(name="value", share=0.25, given=("action", "future_state", "video")),
                ),
            ),
        ),
        axes=Axes(paradigm="joint_prediction", architecture="monolithic", integration="image"),
        departs=size.departs,
    )
