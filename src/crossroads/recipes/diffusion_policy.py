"""Diffusion Policy: a chunk of actions denoised by a small network that is told what was seen at the last two steps.

Chi et al. 2023, arXiv 2303.04137 (real-stanford/diffusion_policy, MIT). The chunk begins at the first observed step;
what is executed begins at the present one. The denoiser is a UNet over time or a transformer; both are called as a
whole, and read pictures and state across.
"""

from __future__ import annotations

from crossroads.diffusion import Ddpm
from crossroads.objectives import Diffusion
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.diffusion_policy_sizes import NANO, TRANSFORMER_NANO, DiffusionPolicySize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Clock, Stream, reads
from crossroads.towers.given import Given


def diffusion_policy(size: DiffusionPolicySize = NANO) -> Recipe:
    """Diffusion Policy with its UNet, at one of its sizes."""
    return _recipe("diffusion_policy", size)


def diffusion_policy_transformer(size: DiffusionPolicySize = TRANSFORMER_NANO) -> Recipe:
    """Diffusion Policy with its transformer, at one of its sizes."""
    return _recipe("diffusion_policy_transformer", size)


def _recipe(name: str, size: DiffusionPolicySize) -> Recipe:
    seen, words = size.denoiser.seen, size.text
    assert seen is not None, "every size sees something"
    text = (Stream(name="text", carries="text", codec=words, tower="text"),) if words else ()
    told = ("image", "state", *(stream.name for stream in text))
    given = (("image", seen.image_width), ("state", seen.state_width), ("text", seen.words_width))
    towers = (
        *(Tower(name=tower, spec=Given(width=width)) for tower, width in given if width),
        Tower(name="denoiser", spec=size.denoiser),
    )
    return Recipe(
        name=name,
        paper="Chi et al. 2023, arXiv 2303.04137",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="image"),
                Stream(name="state", carries="state", codec=size.state, tower="state"),
                *text,
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="denoiser",
                    views=(NOISED,),
                    objective=Diffusion(process=size.process),
                ),
            ),
            edges=reads("action", *told, via="cross"),
            towers=towers,
            schedule=(
                Denoise(streams=("action",), solver=Ddpm(process=size.process, steps=size.denoising_steps, clip=1.0)),
            ),
            clock=Clock(
                block_s=1 / size.action.control_hz,
                tokens_per_block=(("image", len(size.image.cameras)), ("state", 1)),
            ),
        ),
        phases=(Phase(name="full", trains=tuple(tower.name for tower in towers), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )
