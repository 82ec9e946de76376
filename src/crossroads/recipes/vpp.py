"""VPP: a policy on what a video model, called once, knows of a future that is still pure noise.

Hu et al. 2024, arXiv 2412.14803 (MIT). First a video diffusion UNet learns to continue a frame as the words say
(``video``). Then it is frozen and called once, on noise beside the present frame (``glimpse``); the feature maps of its
decoder are gathered by the Video Former into a few tokens of every future frame, and a diffusion policy reads those,
the goal and the robot's state.
"""

from __future__ import annotations

from crossroads.codecs.frame_latents import FrameLatents
from crossroads.edm import Edm, EdmEuler
from crossroads.noise import FixedLevel
from crossroads.objectives import Diffusion
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.vpp_sizes import ACTION_SPREAD, NANO, VppSize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads

GLIMPSE = Diffusion(process=Edm(sigma_data=1.0, levels=FixedLevel(level=1.0)))
"""No phase counts its loss."""


def video_stream(name: str, codec: FrameLatents, objective: Diffusion, shares: str | None = None) -> Stream:
    """Future frames as the UNet denoises them."""
    return Stream(
        name=name,
        carries="video",
        codec=codec,
        tower="video",
        views=(NOISED,),
        objective=objective,
        shares=shares,
    )


def vpp(size: VppSize = NANO) -> Recipe:
    """VPP at one of its sizes."""
    learned = Diffusion(process=Edm(sigma_data=1.0, levels=size.video_levels))
    acting = Edm(sigma_data=ACTION_SPREAD, levels=size.action_levels)
    return Recipe(
        name="vpp",
        paper="Hu et al. 2024, arXiv 2412.14803",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                video_stream("video", size.video, learned),
                video_stream("glimpse", size.video, GLIMPSE, shares="video"),
                Stream(name="gathered", carries="plan", codec=size.gathered, tower="former"),
                Stream(name="state", carries="state", codec=size.state, tower="encoder"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="expert",
                    views=(NOISED,),
                    objective=Diffusion(process=acting),
                ),
            ),
            edges=(
                *reads("text", "text"),
                *(edge for name in ("video", "glimpse") for edge in reads(name, "text", via="cross")),
                Edge(dst="gathered", src="glimpse", via="cross", grad=False, tap=size.tap),
                *reads("state", "text", "gathered", via="cross"),
                Edge(dst="action", src="state", via="cross", tap=0),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower),
                Tower(name="video", spec=size.unet),
                Tower(name="former", spec=size.former),
                Tower(name="encoder", spec=size.encoder),
                Tower(name="expert", spec=size.decoder),
            ),
            schedule=(Denoise(streams=("action",), solver=EdmEuler(process=acting, steps=size.denoising_steps)),),
            sequence=("text",),
        ),
        phases=(
            Phase(name="full", trains=("text", "video", "former", "encoder", "expert"), losses=("video", "action")),
            Phase(name="video", trains=("text", "video"), losses=("video",)),
            Phase(name="policy", trains=("former", "encoder", "expert"), losses=("action",)),
        ),
        axes=Axes(paradigm="representation_only", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )
