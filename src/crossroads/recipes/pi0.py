"""pi0: a vision-language model and a flow-matching action expert in one softmax per layer.

Black et al. 2024, arXiv 2410.24164; openpi (Apache-2.0). Image and words read each other; the state reads them; the
actions read everything and each other; nothing before reads anything after, so the prefix is computed once.
"""

from __future__ import annotations

from crossroads.recipe import Axes, Phase, Recipe, Stage, Tower
from crossroads.recipes import nano
from crossroads.schedule import Denoise
from crossroads.streams import NOISED, Stream, reads


def pi0() -> Recipe:
    """pi0 at nano size."""
    streams = (
        Stream(name="image", carries="image", codec=nano.IMAGE, tower="language"),
        Stream(name="text", carries="text", codec=nano.PROMPT, tower="language"),
        Stream(name="state", carries="state", codec=nano.STATE, tower="expert"),
        Stream(
            name="action",
            carries="action",
            codec=nano.ACTION,
            tower="expert",
            views=(NOISED,),
            objective=nano.ACTION_FLOW,
        ),
    )
    edges = (
        *reads("image", "image", "text"),
        *reads("text", "image", "text"),
        *reads("state", "image", "text", "state"),
        *reads("action", "image", "text", "state", "action"),
    )
    return Recipe(
        name="pi0",
        paper="Black et al. 2024, arXiv 2410.24164",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(
                Tower(name="language", spec=nano.LANGUAGE_TOWER, backbone="nano_vlm"),
                Tower(name="expert", spec=nano.EXPERT),
            ),
            schedule=(Denoise(streams=("action",), steps=nano.DENOISING_STEPS),),
            sequence=("image", "text", "state", "action"),
        ),
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=("action",)),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="mixture_of_transformers", integration="tokens"),
        departs=(
            "At nano size the expert is the one that all arms share (Wan block, told the level by modulation), "
            "not a narrow Gemma told the level inside the action codec.",
            "At nano size one camera, 12 actions and 5 denoising steps instead of three, 50 and 10.",
        ),
    )
