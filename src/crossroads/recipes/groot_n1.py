"""GR00T N1: a diffusion transformer beside a vision-language model, whose states it reads across.

NVIDIA 2025, arXiv 2503.14734; NVIDIA/Isaac-GR00T (Apache-2.0). The forms N1.5 (learned future tokens; every reading
layer reads all) and N1.7 (reading layers take turns between words and pictures). What differs between robots lies in
banks of weights at the raw ends; everything else is shared.
"""

from __future__ import annotations

from crossroads.recipe import Axes, Recipe
from crossroads.recipes.groot_sizes import NANO_N15, NANO_N17, GrootSize
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads


def groot_streams(size: GrootSize) -> tuple[Stream, ...]:
    """Pictures and words of the backbone; state, future tokens and actions are one sequence, told one level."""
    future = [size.future] if size.future else []
    return (
        Stream(name="image", carries="image", codec=size.image, tower="language"),
        Stream(name="text", carries="text", codec=size.text, tower="language"),
        Stream(name="state", carries="state", codec=size.state, tower="expert", told="action"),
        *(Stream(name="future", carries="plan", codec=codec, tower="expert", told="action") for codec in future),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="expert",
            views=(NOISED,),
            objective=size.action_flow,
        ),
    )


def groot_edges(size: GrootSize) -> tuple[Edge, ...]:
    """The head reads itself, and across; which of its layers read which part."""
    own = ("state", *(("future",) if size.future else ()), "action")
    words = tuple(layer for layer in range(size.head.depth) if size.text_every and layer % size.text_every == 0)
    pictures = tuple(layer for layer in range(size.head.depth) if layer not in words)
    turns = {"text": words, "image": pictures} if size.text_every else {"text": None, "image": None}
    return (
        *reads("image", "image", "text"),
        *reads("text", "image", "text"),
        *(edge for group in own for edge in reads(group, *own)),
        *(Edge(dst=group, src=src, via="cross", layers=layers) for group in own for src, layers in turns.items()),
    )


def groot_n1(size: GrootSize) -> Recipe:
    """GR00T N1 in one of its forms and sizes."""
    return Recipe(
        name="groot_n17" if size.text_every else "groot_n15",
        paper="NVIDIA 2025, arXiv 2503.14734",
        stage=Stage(
            name="policy",
            streams=groot_streams(size),
            edges=groot_edges(size),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.head),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            sequence=("image", "text"),
        ),
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=("action",)),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )


def groot_n15(size: GrootSize = NANO_N15) -> Recipe:
    """The form N1.5."""
    return groot_n1(size)


def groot_n17(size: GrootSize = NANO_N17) -> Recipe:
    """The form N1.7."""
    return groot_n1(size)
