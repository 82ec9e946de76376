"""GENIMA: an image model draws where the robot's joints shall be, a controller reads the drawing.

Shridhar et al. 2024, arXiv 2407.07875. Stable Diffusion with a ControlNet sees the tiled pictures of all cameras and
draws them again with coloured marks at the pose that a chunk of actions leads to; ACT (``act``) answers the chunk from
those pictures. It is trained on marks over random textures, so that it reads the marks alone. The painter's targets
need the cameras' geometry (``meta/geometry.json`` of a data set); acting does not.
"""

from __future__ import annotations

from crossroads.diffusion import Ddim
from crossroads.objectives import Diffusion
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.act import act
from crossroads.recipes.genima_sizes import NANO, PROCESS, GenimaSize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Stream, reads

DEPARTS = (
    "Marks are flat discs; published renders spheres, the gripper's striped.",
    "Where joints are is told by numbers of the state along straight lines, not by a robot's kinematics: arms whose "
    "joints turn need the joints' places in their state, and cameras that turn cannot be described.",
    "The pose that is drawn is the recorded one behind the chunk; behind the end of an episode the last one.",
    "The painter's steps are DDIM's, evenly spaced from the last one on; published takes SD-Turbo's Euler steps.",
    "Nothing is cropped, jittered, bent or blurred in training (published does so to both networks' pictures), and no "
    "part of the state is left out.",
    "Random textures are random colours on a coarse grid; published has pictures of textures.",
    "All numbers of an action are learned by their absolute error; published scores the gripper by cross-entropy.",
    "The controller is told no words, and departs as `act` does: no dropout, one learning rate, the error averaged "
    "over the actions that there are.",
    "`full` trains painter and controller at once; no gradient runs between them, so they learn as if alone.",
)


def genima(size: GenimaSize = NANO) -> Recipe:
    """GENIMA at one of its sizes."""
    solver = Ddim(process=PROCESS, steps=size.denoising_steps, spacing="trailing", clip=size.clip)
    controller = act(size.controller).stage
    acting = tuple(tower.name for tower in controller.towers)
    return Recipe(
        name="genima",
        paper="Shridhar et al. 2024, arXiv 2407.07875",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                Stream(
                    name="target",
                    carries="image",
                    codec=size.target,
                    tower="painter",
                    views=(NOISED,),
                    objective=Diffusion(process=PROCESS),
                ),
                *controller.streams,
            ),
            edges=(
                *reads("text", "text"),
                *reads("target", "text", via="cross"),
                *reads("image", "target", via="value"),
                *controller.edges,
            ),
            towers=(
                Tower(name="text", spec=size.text_tower),
                Tower(name="painter", spec=size.painter),
                *controller.towers,
            ),
            schedule=(Denoise(streams=("target",), solver=solver), *controller.schedule),
            sequence=("text", *controller.sequence),
        ),
        phases=(
            Phase(name="full", trains=("text", "painter", *acting), losses=("target", "action", "plan")),
            Phase(name="painter", trains=("text", "painter"), losses=("target",)),
            Phase(name="controller", trains=acting, losses=("action", "plan")),
        ),
        axes=Axes(paradigm="inverse_dynamics", architecture="hierarchical", integration="image"),
        departs=(*DEPARTS, *size.departs),
    )
