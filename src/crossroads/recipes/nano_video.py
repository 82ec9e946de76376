"""nano-video: the text-conditioned latent video model that the world-action arms stand on.

Image-and-text-to-video by flow matching on the latents of the embedded autoencoder: the frame of now is the first
latent at level 0, the future is denoised (Wan 2.2 TI2V, arXiv 2503.20314). It sees no action and no robot state.
"""

from __future__ import annotations

from crossroads.noise import BellWeight, UniformLevels
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Stream, reads

VIDEO_FLOW = Flow(levels=UniformLevels(factor=5.0), level_weight=BellWeight(factor=5.0))


def nano_video() -> Recipe:
    """The recipe at its only size."""
    streams = (
        Stream(name="text", carries="text", codec=nano.TEXT, tower="text"),
        Stream(
            name="video", carries="video", codec=nano.VIDEO, tower="video", views=(NOW, NOISED), objective=VIDEO_FLOW
        ),
    )
    edges = (
        *reads("text", "text"),
        *reads("video.now", "video.now"),
        *reads("video", "video.now", "video"),
        *reads("video.now", "text", via="cross"),
        *reads("video", "text", via="cross"),
    )
    return Recipe(
        name="nano_video",
        paper="crossroads nano backbone; layout of Wan 2.2 TI2V, arXiv 2503.20314",
        stage=Stage(
            name="video",
            streams=streams,
            edges=edges,
            towers=(Tower(name="text", spec=nano.TEXT_TOWER), Tower(name="video", spec=nano.VIDEO_TOWER)),
            schedule=(Denoise(streams=("video",), solver=Euler(steps=nano.DENOISING_STEPS, factor=5.0)),),
            sequence=("text",),
        ),
        phases=(Phase(name="pretrain", trains=("text", "video"), losses=("video",)),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="none"),
        departs=(
            "The words go through a two-layer encoder trained with the video model, not a frozen UMT5.",
            "The first frame's tokens read only each other and the words (Fast-WAM's first-frame-causal mask).",
        ),
    )
