"""X-VLA: a plain transformer over noised actions and all that Florence-2 says, with learned tokens for each robot.

Zheng et al. 2025, arXiv 2510.10274; 2toinf/X-VLA (Apache-2.0). The first camera and the instruction go through the
language encoder, further cameras go past it; what comes out of both stands behind the actions as tokens of the same
transformer, which reads all of them in full. It answers the clean actions. Prompts and ends are each robot's own.
"""

from __future__ import annotations

from crossroads.diffusion import Renoise
from crossroads.objectives import Diffusion
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.xvla_sizes import NANO, READ, XvlaSize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.given import Given


def xvla_streams(size: XvlaSize) -> tuple[Stream, ...]:
    """What is seen and said, what the transformer is handed of it, its prompts and the actions."""
    more = []
    if size.others and size.seen_others:
        more = [
            Stream(name="others", carries="image", codec=size.others, tower="views", shares="image"),
            Stream(name="seen_others", carries="plan", codec=size.seen_others, tower="policy"),
        ]
    return (
        Stream(name="image", carries="image", codec=size.image, tower="language"),
        Stream(name="text", carries="text", codec=size.text, tower="language"),
        *more,
        Stream(name="seen", carries="plan", codec=size.seen, tower="policy"),
        *(Stream(name="prompts", carries="plan", codec=one, tower="policy") for one in (size.prompts,) if one),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="policy",
            views=(NOISED,),
            objective=Diffusion(process=size.process),
        ),
    )


def xvla(size: XvlaSize = NANO) -> Recipe:
    """X-VLA at one of its sizes."""
    placed = ("action", "seen", *(("seen_others",) if size.seen_others else ()))
    own = (*placed, *(("prompts",) if size.prompts else ()))
    views = ("views",) if size.others else ()
    return Recipe(
        name="xvla",
        paper="Zheng et al. 2025, arXiv 2510.10274",
        stage=Stage(
            name="policy",
            streams=xvla_streams(size),
            edges=(
                *(edge for group in READ for edge in reads(group, *READ)),
                *(edge for group in own for edge in reads(group, *own)),
                *reads("seen", *READ, via="value"),
                *(reads("seen_others", "others", via="value") if size.seen_others else ()),
                *(reads("others", "others") if size.others else ()),
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                *(Tower(name=name, spec=Given(width=size.language.width)) for name in views),
                Tower(name="policy", spec=size.policy),
            ),
            schedule=(Denoise(streams=("action",), solver=Renoise(process=size.process, steps=size.denoising_steps)),),
            sequence=(*READ, *placed),
        ),
        phases=(
            Phase(name="full", trains=("language", *views, "policy"), losses=("action",)),
            Phase(name="head", trains=("policy",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )
