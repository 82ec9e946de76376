"""ACT: a chunk of actions from pictures and joints, in a style that training reads from the demonstration.

Zhao et al. 2023, arXiv 2304.13705; tonyzhaozh/act (MIT, the DETR part Apache-2.0). A conditional variational
autoencoder on DETR: a style encoder reads the demonstrated chunk, its style enters the encoder as one token beside the
joints and the feature maps, and queries for the chunk read the encoder across. When acting the style is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.blank_actions import BlankActions, SeenActions
from crossroads.codecs.maps import FeatureMaps
from crossroads.codecs.plan import PlanQuery, PlanToken
from crossroads.codecs.resnet import ResNet
from crossroads.codecs.state import StateToken
from crossroads.objectives import Regress
from crossroads.plans import KL, Gaussian
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Draw, Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, POSTERIOR, Stream, reads
from crossroads.towers.classic import Classic


@dataclass(frozen=True, kw_only=True)
class ActSize:
    """What differs between sizes. ``style``: how many numbers it has; ``kl_weight``: what its divergence costs."""

    image: FeatureMaps
    num_state: int
    num_actions: int
    action_size: int
    control_hz: float
    style: int
    style_encoder: Classic
    encoder: Classic
    decoder: Classic
    kl_weight: float
    departs: tuple[str, ...]


def towers_of(
    *,
    width: int,
    mlp: int,
    heads: int,
    num_actions: int,
    depth: int,
    decoder_depth: int = 1,
    norm_first: bool = False,
) -> dict[str, Classic]:
    """The three towers of one width. The published decoder has 7 layers and answers from the first (issues 10, 25, 51
    of tonyzhaozh/act), so one layer is what it is; ``decoder_depth`` above 1 answers from the last."""
    style = Classic(width=width, mlp=mlp, depth=depth, heads=heads, norm_first=norm_first, last_norm=norm_first)
    decoder = replace(style, depth=decoder_depth, num_places=num_actions, context_width=width, last_norm=True)
    return {"style_encoder": style, "encoder": replace(style, num_places=2), "decoder": decoder}


NANO = ActSize(
    image=FeatureMaps(
        cameras=nano.CAMERAS, image_hw=nano.IMAGE_HW, network=ResNet(widths=(32, 64), depths=(1, 1), group=16)
    ),
    num_state=nano.NUM_STATE,
    num_actions=nano.NUM_ACTIONS,
    action_size=nano.ACTION_SIZE,
    control_hz=nano.CONTROL_HZ,
    style=8,
    **towers_of(width=96, mlp=192, heads=4, num_actions=nano.NUM_ACTIONS, depth=2),
    kl_weight=10.0,
    departs=(
        "At nano size the pictures go through two stages of residual blocks with trained group norms, from nothing.",
        "At nano size one camera at 64 px, 12 actions of 4 numbers, a style of 8 numbers and two layers.",
    ),
)

PUBLISHED = ActSize(  # ALOHA: two arms of seven joints, four cameras
    image=FeatureMaps(cameras=("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"), image_hw=(480, 640)),
    num_state=14,
    num_actions=100,
    action_size=14,
    control_hz=50.0,
    style=32,
    **towers_of(width=512, mlp=3200, heads=8, num_actions=100, depth=4),
    kl_weight=10.0,
    departs=("The ResNet-18 starts at random until ImageNet's weights are put in; its batch norms are frozen.",),
)


def act(size: ActSize = NANO) -> Recipe:
    """ACT at one of its sizes."""
    chunk = {"num_actions": size.num_actions, "action_size": size.action_size, "control_hz": size.control_hz}
    family, state = Gaussian(size=size.style), StateToken(num_state=size.num_state)
    style, seen = ("style", "style_state", "style_action"), ("plan", "state", "image")
    streams = (
        Stream(name="style", carries="plan", codec=PlanQuery(family=family), tower="style_encoder", views=(POSTERIOR,)),
        Stream(name="style_state", carries="state", codec=state, tower="style_encoder"),
        Stream(
            name="style_action", carries="action", codec=SeenActions(**chunk), tower="style_encoder", views=(POSTERIOR,)
        ),
        Stream(
            name="plan",
            carries="plan",
            codec=PlanToken(size=family.size),
            tower="encoder",
            views=(NOISED,),
            objective=KL(family=family, posterior="style", weight=size.kl_weight),
        ),
        Stream(name="state", carries="state", codec=state, tower="encoder"),
        Stream(name="image", carries="image", codec=size.image, tower="encoder"),
        Stream(
            name="action",
            carries="action",
            codec=BlankActions(**chunk),
            tower="decoder",
            views=(NOISED,),
            objective=Regress(),
        ),
    )
    edges = (
        *(edge for group in style for edge in reads(group, *style)),
        *(edge for group in seen for edge in reads(group, *seen)),
        *reads("action", "action"),
        *reads("action", *seen, via="cross"),
    )
    return Recipe(
        name="act",
        paper="Zhao et al. 2023, arXiv 2304.13705",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(
                Tower(name="style_encoder", spec=size.style_encoder),
                Tower(name="encoder", spec=size.encoder),
                Tower(name="decoder", spec=size.decoder),
            ),
            schedule=(Draw(stream="plan", sampled=False), Predict(streams=("action",))),
            sequence=(*style, *seen),
        ),
        phases=(Phase(name="full", trains=("style_encoder", "encoder", "decoder"), losses=("action", "plan")),),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="tokens"),
        departs=(
            *size.departs,
            "The decoder is the one layer whose answer the published code takes; its six others, which nothing reads, "
            "and the head for padding, which no loss trains, are not there.",
            "The error is averaged over the actions that there are; published also divides by those that are padded. "
            "Queries for padded actions are hidden from the others.",
            "No dropout (published 0.1), one learning rate for pictures and transformer, the trainer's optimiser.",
            "A whole chunk is executed; published may ask at every step and average what all chunks say of it.",
            "The words are not read: a policy learns what its data does in each scene.",
        ),
    )
