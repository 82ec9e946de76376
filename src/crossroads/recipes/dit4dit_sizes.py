"""The sizes of DiT4DiT: nano, and what was published for LIBERO (arXiv 2603.10448; configs of the MIT code)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens, HeadEnds
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.reason import ReasonFeatures
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.noise import BetaLevels, LogitNormalLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.recipes.nano_video import VIDEO_FLOW
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.groot import GrootHead
from crossroads.towers.plain import Plain
from crossroads.towers.wan import Wan

COSMOS_25 = "nvidia/Cosmos-Predict2.5-2B"


@dataclass(frozen=True, kw_only=True)
class Dit4DitSize:
    """What differs between sizes.

    ``tap``: the layer of the video model after which the head reads. ``sees_ahead``: the tokens of the frame of now
    read those of the future beside them. ``backbone``: shipped weights of video and words.
    """

    text: TextTokens | ReasonFeatures
    text_tower: Plain | Given
    video: VideoLatents
    video_tower: Wan | Cosmos
    tap: int
    sees_ahead: bool
    state: StateToken
    action: ActionTokens
    head: GrootHead
    video_flow: Flow
    action_flow: Flow
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


NANO = Dit4DitSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=nano.VIDEO,
    video_tower=nano.VIDEO_TOWER,
    tap=3,
    sees_ahead=False,
    state=replace(nano.STATE, hidden=(128,), activation="relu"),
    action=replace(nano.ACTION, hidden_out=(128,), activation="relu", head=HeadEnds(num_places=16, widened=128)),
    head=GrootHead(heads=4, head_dim=32, mlp=512, depth=3, context_width=nano.VIDEO_TOWER.width, frequency_width=64),
    video_flow=VIDEO_FLOW,
    action_flow=nano.ACTION_FLOW,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_video",
    departs=(
        "At nano size the video model is a Wan of 6 layers, tapped after the fourth (published: the eighteenth of 28), "
        "in which the frame of now reads itself alone, as it was pretrained.",
        "At nano size the noise levels and weights of actions and video are those of all nano arms, and acting takes 5 "
        "steps instead of 4.",
        "At nano size one camera at 64 px, 4 future frames and 12 actions instead of 8.",
        "At nano size the words go through a two-layer encoder trained with the video model.",
        "One draw of noise per sample and step; published repeats the head 4 times on the same features.",
    ),
)

PUBLISHED = Dit4DitSize(
    text=ReasonFeatures(source=COSMOS_25),
    text_tower=Given(width=1024),
    video=VideoLatents(  # control steps 2, 4, 6 and 8 at LIBERO's 20 Hz
        cameras=("front",),
        image_hw=(224, 224),
        future_s=(0.1, 0.2, 0.3, 0.4),
        autoencoder=WanAutoencoder(source=COSMOS_25, channels=16, space_factor=8),
        patch=2,
        marked=True,
    ),
    video_tower=Cosmos(
        width=2048, mlp=8192, depth=28, heads=16, head_dim=128, rotary=(44, 42, 42), context_width=1024, head_eps=1e-5
    ),
    tap=17,
    sees_ahead=True,
    state=StateToken(num_state=16, normaliser="min_max", hidden=(2560,), activation="relu"),
    action=ActionTokens(
        num_actions=8,
        action_size=8,
        control_hz=20.0,
        normaliser="min_max",
        hidden_out=(2560,),
        activation="relu",
        head=HeadEnds(num_places=1024, widened=2560),
    ),
    head=GrootHead(heads=12, head_dim=64, mlp=3072, depth=8, context_width=2048),
    video_flow=Flow(levels=LogitNormalLevels(high_share=0.05, high_from=0.98)),
    action_flow=Flow(levels=BetaLevels(scale=1 / 0.999, offset=0.0)),
    denoising_steps=4,
    backbone=None,
    departs=(
        "Sizes are the code's: 8 actions, padded to 8 numbers, and the sines and cosines of 8 states; whoever gives "
        "the data pads and turns them. No learned future tokens (the paper has them, the code ignores them).",
        "As in the code, and not in the paper, the action loss does not reach the video model, video levels are "
        "logit-normal with 5 % from 0.98 on, and the features' level is always pure noise.",
        "The frame of now is told level 0; published tells it 0.0001, and pads its clip with grey before encoding.",
        "One draw of noise per sample and step; published repeats the head 4 times on the same features. No dropout "
        "(published 0.2 in the head).",
        "Levels are cut to thousandths exactly; published loses one where a float falls short (0.2 becomes 199).",
        "The autoencoder is Wan 2.1's; its weights and work are counted as those of Wan 2.2's.",
        "The weights start at random until DiT4DiT's are imported; published starts from Cosmos-Predict2.5-2B.",
    ),
)
