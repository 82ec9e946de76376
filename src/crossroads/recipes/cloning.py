"""Behaviour cloning from scratch: the control without a backbone. One plain transformer, regression of the chunk.

Image patches, words and state in, queries for the chunk out; nothing is pretrained, everything is trained.
"""

from __future__ import annotations

from crossroads.objectives import Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.plain import Plain

TOWER = Plain(width=96, mlp=384, depth=2, heads=4)


def cloning() -> Recipe:
    """The recipe at its only size."""
    streams = (
        Stream(name="image", carries="image", codec=nano.SMALL_IMAGE, tower="policy"),
        Stream(name="text", carries="text", codec=nano.TEXT, tower="policy"),
        Stream(name="state", carries="state", codec=nano.STATE, tower="policy"),
        Stream(
            name="action", carries="action", codec=nano.ACTION, tower="policy", views=(NOISED,), objective=Regress()
        ),
    )
    edges = tuple(
        edge
        for dst in ("image", "text", "state", "action")
        for edge in reads(dst, "image", "text", "state", *(("action",) if dst == "action" else ()))
    )
    return Recipe(
        name="cloning",
        paper="control; behaviour cloning from pixels",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(Tower(name="policy", spec=TOWER),),
            schedule=(Predict(streams=("action",)),),
            sequence=("image", "text", "state", "action"),
        ),
        phases=(Phase(name="full", trains=("policy",), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="tokens"),
    )
