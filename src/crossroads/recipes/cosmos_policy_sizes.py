"""The sizes of :func:`crossroads.recipes.cosmos_policy.cosmos_policy`: nano, and the released one for LIBERO."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.slots import CameraSlots
from crossroads.codecs.text import TextTokens
from crossroads.codecs.video_autoencoder import NanoAutoencoder
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.recipes import nano
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
