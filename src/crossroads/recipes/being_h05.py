"""Being-H0.5: a vision-language model and an expert for state and actions in one causal softmax per layer.

BeingBeyond 2026, arXiv 2601.12993; BeingBeyond/Being-H (Apache-2.0). One sequence of pictures, state, instruction and
actions, in which each token reads those before it; state and actions have weights of their own in every layer.
"""

from __future__ import annotations

from crossroads.recipe import Axes, Recipe
from crossroads.recipes.being_h05_sizes import NANO, BeingH05Size
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads

SEQUENCE = ("image", "state", "text", "action")


def being_h05(size: BeingH05Size = NANO) -> Recipe:
    """Being-H0.5 at one of its sizes."""
    return Recipe(
        name="being_h05",
        paper="BeingBeyond 2026, arXiv 2601.12993",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="state", carries="state", codec=size.state, tower="expert"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="expert",
                    views=(NOISED,),
                    objective=size.action_flow,
                ),
            ),
            edges=tuple(
                edge
                for index, name in enumerate(SEQUENCE)
                for edge in (*reads(name, *SEQUENCE[:index]), Edge(dst=name, src=name, when="causal"))
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            sequence=SEQUENCE,
        ),
        phases=(Phase(name="full", trains=("language", "expert"), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="mixture_of_transformers", integration="tokens"),
        departs=size.departs,
    )
