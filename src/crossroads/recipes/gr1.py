"""GR-1: one GPT over observed steps, with queries for actions and for the frames to come, which nobody reads.

Wu et al. 2024, arXiv 2312.13139; bytedance/GR-1 (Apache-2.0). Each step's queries read that step and those before it,
so the future teaches what is observed and may be left out when acting.
"""

from __future__ import annotations

from crossroads.codecs.action_queries import ActionQueries
from crossroads.codecs.foreseen import FuturePatches
from crossroads.codecs.gripper_state import GripperState
from crossroads.objectives import Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import foresight_sizes as sizes
from crossroads.schedule import Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.plain import Gpt

NANO = sizes.ForesightSize(
    text=sizes.NANO_TEXT,
    state=sizes.NANO_STATE,
    image=sizes.NANO_IMAGE,
    action=sizes.NANO_ACTION,
    video=sizes.NANO_FUTURE,
    tower=sizes.NANO_TOWER,
    departs=(
        *sizes.NANO_DEPARTS,
        "At nano size 12 queries give 12 actions at each step, of which 6 are executed; published gives and executes "
        "one. The last of them are asked for beyond the next observed step.",
    ),
)

PUBLISHED = sizes.ForesightSize(  # CALVIN: two cameras, ten steps, one action
    text=sizes.clip(10, unit=True),
    state=GripperState(num_state=7, steps=sizes.steps(10)),
    image=sizes.autoencoded(10, num=9, heads=4, head_dim=128, marked=True),
    action=ActionQueries(
        num_actions=1, action_size=7, control_hz=sizes.CALVIN_HZ, steps=sizes.steps(10), hidden=(192, 192)
    ),
    video=FuturePatches(
        cameras=sizes.CALVIN_CAMERAS, image_hw=sizes.SQUARE, patch=sizes.PATCH, num_queries=10, steps=sizes.steps(10)
    ),
    tower=Gpt(width=384, mlp=1536, depth=12, heads=12, num_steps=10, activation="relu"),
    departs=sizes.PUBLISHED_DEPARTS,
)


def gr1(size: sizes.ForesightSize = NANO) -> Recipe:
    """GR-1 at one of its sizes."""
    learned = {
        "action": Regress(error="smooth", binary=size.action.binary if size.action else 0),
        "video": Regress(error="squared", weight=float(len(size.video.cameras)) if size.video else 1.0),
    }
    queries = tuple(
        Stream(name=name, carries=name, codec=codec, tower="policy", views=(NOISED,), objective=learned[name])
        for name, codec in size.asked.items()
    )
    return Recipe(
        name="gr1",
        paper="Wu et al. 2024, arXiv 2312.13139",
        stage=Stage(
            name="policy",
            streams=(*size.observed(), *queries),
            edges=(
                *in_order(),
                *(edge for stream in queries for edge in reads(stream.name, *sizes.OBSERVED, when="upto")),
            ),
            towers=(Tower(name="policy", spec=size.tower),),
            schedule=(Predict(streams=("action",)),),
            clock=size.clock(),
        ),
        phases=(Phase(name="full", trains=("policy",), losses=tuple(stream.name for stream in queries)),),
        axes=Axes(paradigm="joint_prediction", architecture="monolithic", integration="tokens"),
        departs=size.departs,
        because=(
            "Actions and frames are predicted in one pass of training; acting leaves the frames out, as published.",
        ),
    )


def in_order() -> tuple[Edge, ...]:
    """Token by token through the whole window: a step's tokens read those before them in it, and all past steps."""
    found = []
    for place, dst in enumerate(sizes.OBSERVED):
        found += reads(dst, *sizes.OBSERVED[:place], when="upto")
        found += reads(dst, *sizes.OBSERVED[place + 1 :], when="past")
        found.append(Edge(dst=dst, src=dst, when="causal"))
    return tuple(found)
