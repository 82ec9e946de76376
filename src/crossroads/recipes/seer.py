"""Seer: GR-1's queries, and those for actions read those for the frame to come: inverse dynamics in one pass.

Tian et al. 2024, arXiv 2412.15109; OpenRobotLab/Seer (Apache-2.0). The error of the actions teaches what is foreseen.
``seer_auxiliary`` is the same without that edge.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.codecs.action_queries import ActionQueries
from crossroads.codecs.foreseen import FuturePatches
from crossroads.codecs.gripper_state import GripperState
from crossroads.codecs.resampler import Resampler
from crossroads.objectives import Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import foresight_sizes as sizes
from crossroads.schedule import Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.plain import Gpt

NANO = sizes.ForesightSize(
    text=sizes.NANO_TEXT,
    state=sizes.NANO_STATE,
    image=replace(sizes.NANO_IMAGE, order="classes last", resampler=Resampler(num=9, depth=1, heads=4, head_dim=24)),
    action=replace(sizes.NANO_ACTION, activation="relu", bounded=True, placed=True),
    video=replace(sizes.NANO_FUTURE, even="variance", placed=True, marked=True),
    tower=replace(sizes.NANO_TOWER, activation="gelu"),
    departs=(
        *sizes.NANO_DEPARTS,
        "At nano size 12 queries give 12 actions at each step, of which 6 are executed; published gives three and "
        "executes one.",
    ),
)

PUBLISHED = sizes.ForesightSize(  # CALVIN, fine-tuned
    text=sizes.clip(10, unit=False),
    state=GripperState(num_state=7, steps=sizes.steps(10)),
    image=replace(sizes.autoencoded(10, num=6, heads=8, head_dim=64, marked=False), order="classes last"),
    action=ActionQueries(
        num_actions=3,
        action_size=7,
        control_hz=sizes.CALVIN_HZ,
        steps=sizes.steps(10),
        hidden=(192, 192),
        activation="relu",
        bounded=True,
        placed=True,
    ),
    video=FuturePatches(
        cameras=sizes.CALVIN_CAMERAS,
        image_hw=sizes.SQUARE,
        patch=sizes.PATCH,
        num_queries=9,
        steps=sizes.steps(10),
        even="variance",
        placed=True,
        marked=True,
    ),
    tower=Gpt(width=384, mlp=1536, depth=24, heads=12, num_steps=10),
    departs=(
        *sizes.PUBLISHED_DEPARTS,
        "The switches of pretraining are not there: actions that read the present pictures alone, foresight hidden at "
        "random, and a state some steps later as the goal.",
    ),
)


def seer(size: sizes.ForesightSize = NANO, *, foreseeing: bool = True) -> Recipe:
    """Seer at one of its sizes; without ``foreseeing`` the frames to come are an auxiliary task alone."""
    learned = {
        "action": Regress(error="smooth", binary=size.action.binary if size.action else 0, binary_weight=0.01),
        "video": Regress(error="squared", weight=0.1),
    }
    queries = tuple(
        Stream(name=name, carries=name, codec=codec, tower="policy", views=(NOISED,), objective=learned[name])
        for name, codec in size.asked.items()
    )
    groups = (*sizes.OBSERVED, *size.asked)
    return Recipe(
        name="seer" if foreseeing else "seer_auxiliary",
        paper="Tian et al. 2024, arXiv 2412.15109",
        stage=Stage(
            name="policy",
            streams=(*size.observed(), *queries),
            edges=(
                *(edge for group in groups for edge in reads(group, *sizes.OBSERVED, when="upto")),
                *(reads("action", "video", when="same") if foreseeing and len(size.asked) == 2 else ()),
            ),
            towers=(Tower(name="policy", spec=size.tower),),
            schedule=(Predict(streams=("action",)),),
            clock=size.clock(),
        ),
        phases=(Phase(name="full", trains=("policy",), losses=tuple(size.asked)),),
        axes=Axes(
            paradigm="inverse_dynamics" if foreseeing else "representation_only",
            architecture="monolithic",
            integration="tokens",
        ),
        departs=size.departs if foreseeing else (*size.departs, "Actions do not read what is foreseen (a control)."),
        because=("Actions read the states of what is foreseen in the pass that makes them; no leg settles them first.",)
        if foreseeing
        else (),
    )


def seer_auxiliary(size: sizes.ForesightSize = NANO) -> Recipe:
    """The control: the same queries and losses, and actions that do not read what is foreseen."""
    return seer(size, foreseeing=False)
