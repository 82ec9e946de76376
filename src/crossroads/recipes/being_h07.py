"""Being-H0.7: slots of a plan between what is seen and the actions, taught by the frames to come.

BeingBeyond 2026, arXiv 2605.00078 (its code was not published; that of Being-H0.5 is Apache-2.0). Training runs two
branches in one sequence: learned queries and their actions, and the future's embedding in the same slots with actions
of its own. They see the same context and not each other, and the slots' states are brought together layer by layer.
Acting runs the first branch alone.
"""

from __future__ import annotations

from crossroads.objectives import Align
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.being_h07_sizes import NANO, BeingH07Size
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, POSTERIOR, PRIOR, Stream, reads


def being_h07(size: BeingH07Size = NANO) -> Recipe:
    """Being-H0.7 at one of its sizes."""
    context = ("image", "text", "state")
    branches = {"plan": "action", "plan.posterior": "action_posterior"}
    depth = size.expert.geometry.depth
    actions = tuple(
        Stream(
            name=name,
            carries="action",
            codec=size.action,
            tower="expert",
            views=(NOISED,),
            objective=size.action_flow,
            shares=None if name == "action" else "action",
        )
        for name in branches.values()
    )
    return Recipe(
        name="being_h07",
        paper="BeingBeyond 2026, arXiv 2605.00078",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(name="state", carries="state", codec=size.state, tower="expert"),
                Stream(
                    name="plan",
                    carries="video",
                    codec=size.plan,
                    tower="expert",
                    views=(PRIOR, POSTERIOR),
                    objective=Align(layers=tuple(range(depth - size.aligned, depth)), weight=1e-3),
                ),
                *actions,
            ),
            edges=(
                *reads("image", "image", "text"),
                *reads("text", "image", "text"),
                *reads("state", *context),
                *(edge for pair in branches.items() for group in pair for edge in reads(group, *context, *pair)),
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            sequence=(*context, *branches, *branches.values()),
            coupled=(tuple(branches.values()),),
        ),
        phases=(Phase(name="full", trains=("language", "expert"), losses=("plan", *branches.values())),),
        axes=Axes(paradigm="representation_only", architecture="mixture_of_transformers", integration="tokens"),
        departs=size.departs,
    )
