"""UniPi: planning as video. The words and the frame of now make a clip of the whole task; the clip tells the actions.

Du et al. 2023, arXiv 2302.00111 (no code); the video half as AVDC released it (Ko et al. 2023, arXiv 2310.08576, MIT).
One diffusion UNet draws a few frames of the plan, a second all of it around them; a small inverse model, which knows
neither words nor plan, says what lies between two neighbouring frames. It is trained on recorded frames and acts on
those that were drawn. The whole plan is executed open loop; ``crossroads eval --execute N`` plans anew every N steps.
"""

from __future__ import annotations

from crossroads.diffusion import Ddim
from crossroads.objectives import Diffusion, Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.unipi_sizes import NANO, PROCESS, UnipiSize
from crossroads.schedule import Denoise, Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.given import Given

DEPARTS = (
    "The diffusion is AVDC's: 100 steps on a cosine, velocities answered, their squared error not weighed by the ratio "
    "of signal to noise; UniPi's is continuous over a log-SNR of -20 to 20.",
    "The frame of now enters in -1..1 like the clip; AVDC's code leaves it in 0..1.",
    "No guidance and no samples without words; neither UniPi's weight nor AVDC's 0 would use one.",
    "Of the cascade there is one refinement, in time; the enlargements of real robots' clips are not there.",
    "UNet and order of layers are AVDC's, as UniPi's are not public.",
    "Nothing is pretrained on video from the web.",
    "The trainer's optimiser for all parts; published AVDC keeps an average of weights (decay 0.999).",
    "`full` trains the three networks at once; no gradient runs between them, so they learn as if alone.",
)


def unipi(size: UnipiSize = NANO) -> Recipe:
    """UniPi at one of its sizes."""
    solver = Ddim(process=PROCESS, steps=size.denoising_steps, spacing="trailing")
    clips = tuple(
        Stream(
            name=name,
            carries="video",
            codec=size.clip(coarse=name == "draught"),
            tower=name,
            views=(NOISED,),
            objective=Diffusion(process=PROCESS),
        )
        for name in ("draught", "video")
    )
    return Recipe(
        name="unipi",
        paper="Du et al. 2023, arXiv 2302.00111",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                *clips,
                Stream(name="pairs", carries="image", codec=size.pairs, tower="pairs"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="inverse",
                    views=(NOISED,),
                    objective=Regress(error="squared"),
                ),
            ),
            edges=(
                *reads("text", "text"),
                *reads("draught", "text", via="cross"),
                *reads("video", "text", via="cross"),
                *reads("video", "draught", via="value"),
                *reads("pairs", "video", via="value"),
                *reads("action", "pairs", via="cross"),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower),
                Tower(name="draught", spec=size.unet(coarse=True)),
                Tower(name="video", spec=size.unet(coarse=False)),
                Tower(name="pairs", spec=Given(width=size.pairs.width)),
                Tower(name="inverse", spec=size.inverse),
            ),
            schedule=(
                Denoise(streams=("draught",), solver=solver),
                Denoise(streams=("video",), solver=solver),
                Predict(streams=("action",)),
            ),
            sequence=("text",),
        ),
        phases=(
            Phase(name="full", trains=("text", "draught", "video", "inverse"), losses=("draught", "video", "action")),
            Phase(name="planner", trains=("text", "draught", "video"), losses=("draught", "video")),
            Phase(name="inverse", trains=("inverse",), losses=("action",)),
        ),
        axes=Axes(paradigm="inverse_dynamics", architecture="hierarchical", integration="tokens"),
        departs=(*DEPARTS, *size.departs),
    )
