"""UVA: one transformer over what is seen, and two small denoisers beside it, one for frames to come, one for actions.

Li et al. 2025, arXiv 2503.00200 (ShuangLI59/unified_video_action, MIT). Both learn from the states of one pass, in
which the frames to come are blank; acting runs that pass once and denoises the actions alone.
"""

from __future__ import annotations

from crossroads.diffusion import Ddpm
from crossroads.objectives import Diffusion
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.uva_sizes import NANO, UvaSize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.given import Given

LEARNED = ("video", "action")


def uva(size: UvaSize = NANO) -> Recipe:
    """UVA at one of its sizes."""
    learned = Diffusion(process=size.process)
    towers = (
        Tower(name="text", spec=Given(width=size.tower.context_width)),
        Tower(name="model", spec=size.tower),
        Tower(name="video_head", spec=size.video_head),
        Tower(name="action_head", spec=size.action_head),
    )
    solver = Ddpm(process=size.process, steps=size.denoising_steps, spacing="linspace", clip=1.0)
    return Recipe(
        name="uva",
        paper="Li et al. 2025, arXiv 2503.00200",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                Stream(name="image", carries="image", codec=size.video, tower="model", shares="video"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video_head",
                    views=(NOISED,),
                    objective=learned,
                ),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="action_head",
                    views=(NOISED,),
                    objective=learned,
                ),
            ),
            edges=(
                *reads("image", "text", via="cross"),
                *(Edge(dst=name, src="image", via="cross", tap=0) for name in LEARNED),
            ),
            towers=towers,
            schedule=(Denoise(streams=("action",), solver=solver),),
        ),
        phases=(
            Phase(name="full", trains=tuple(tower.name for tower in towers), losses=LEARNED),
            Phase(name="video", trains=("text", "model", "video_head"), losses=("video",)),
        ),
        axes=Axes(paradigm="joint_prediction", architecture="hierarchical", integration="tokens"),
        because=("Both are learned from one state; acting, as published, leaves the frames out.",),
        departs=size.departs,
    )
