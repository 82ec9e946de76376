"""MolmoAct2: a language model that writes actions, and a diffusion transformer that reads its keys layer by layer.

Ai2 2026; allenai/molmoact2, LeRobot's port (Apache-2.0). Pictures read each other, words what came before them. Actions
as FAST tokens are learned in the language model; the expert's layer of each number reads the keys and values that its
layer of that number made of pictures and prompt, without a gradient, and never the tokens of actions.
"""

from __future__ import annotations

from crossroads.recipe import Axes, Recipe
from crossroads.recipes.molmoact2_sizes import NANO, MolmoSize
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads


def molmoact2(size: MolmoSize = NANO) -> Recipe:
    """MolmoAct2 at one of its sizes."""
    return Recipe(
        name="molmoact2",
        paper="Ai2 2026, MolmoAct2",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(
                    name="fast",
                    carries="action",
                    codec=size.fast,
                    tower="language",
                    views=(NOISED,),
                    objective=size.next_token,
                    shares="text",
                ),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="expert",
                    views=(NOISED,),
                    objective=size.action_flow,
                ),
            ),
            edges=(
                *reads("image", "image"),
                *reads("text", "image"),
                Edge(dst="text", src="text", when="causal"),
                *reads("fast", "image", "text"),
                Edge(dst="fast", src="fast", when="causal"),
                *reads("action", "image", "text", via="cross", grad=not size.insulated),
                *reads("action", "action"),
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            sequence=("image", "text", "fast"),
        ),
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=("fast", "action")),
            Phase(name="words", trains=("language",), losses=("fast",)),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )
