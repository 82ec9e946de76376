"""LAPA: video without actions is labelled with latent ones, a model learns to write them, then the robot's own.

Ye et al. 2024, arXiv 2410.11758 (MIT). Phase ``quantiser`` learns what leads from a frame to a later one, in a few
words of a tiny vocabulary; phase ``latent`` teaches a language model to write them from picture and instruction; phase
``action`` teaches it to write a robot's actions instead, on the few recordings that have any. Each starts from the one
before: ``crossroads train lapa --phase latent --start RUN``.
"""

from __future__ import annotations

from crossroads.codecs.motion import MotionCodes
from crossroads.objectives import Regress, TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.lapa_sizes import NANO, LapaSize
from crossroads.schedule import Decode
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.given import Given


def lapa(size: LapaSize = NANO) -> Recipe:
    """LAPA at one of its sizes."""
    codes = MotionCodes(clip=size.motion)
    width = size.motion.size
    return Recipe(
        name="lapa",
        paper="Ye et al. 2024, arXiv 2410.11758",
        stage=Stage(
            name="policy",
            streams=(
                Stream(
                    name="motion",
                    carries="video",
                    codec=size.motion,
                    tower="motion",
                    views=(NOISED,),
                    objective=Regress(error="squared", drawn=True),
                ),
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(
                    name="latent",
                    carries="plan",
                    codec=codes,
                    tower="language",
                    views=(NOISED,),
                    objective=TokenCE(start_token=codes.start, end_token=codes.start + 1),
                    labelled_by="motion",
                ),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="language",
                    views=(NOISED,),
                    objective=size.next_token,
                    shares="text",
                ),
            ),
            edges=(
                *context_edges(causal=size.causal),
                *(edge for name in ("latent", "action") for edge in reads(name, "image", "text")),
                *(Edge(dst=name, src=name, when="causal") for name in ("latent", "action")),
            ),
            towers=(
                Tower(name="motion", spec=Given(width=width)),
                Tower(name="language", spec=size.language, backbone=size.backbone),
            ),
            schedule=(Decode(stream="action"),),
            sequence=("image", "text", "latent", "action"),
        ),
        phases=(
            Phase(name="quantiser", trains=("motion",), losses=("motion",)),
            Phase(name="latent", trains=("language",), losses=("latent",)),
            Phase(name="action", trains=("language",), losses=("action",)),
        ),
        axes=Axes(paradigm="representation_only", architecture="monolithic", integration="latent"),
        because=("Latent actions are what the model is pretrained to write; when it acts it writes the robot's own.",),
        departs=size.departs,
    )


def context_edges(*, causal: bool) -> tuple[Edge, ...]:
    """Picture and words that read each other, or each token what stands before it."""
    if not causal:
        return (*reads("image", "image", "text"), *reads("text", "image", "text"))
    return (*(Edge(dst=name, src=name, when="causal") for name in ("image", "text")), *reads("text", "image"))
