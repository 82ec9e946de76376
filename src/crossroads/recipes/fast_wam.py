"""Fast-WAM and its two imagining forms: one mixture of a video model and an action expert, three sets of edges.

Yuan et al. 2026, arXiv 2603.16666 (MIT). ``fast_wam``: actions read only the frame of now, the video loss is there
in training alone. ``fast_wam_joint``: actions read the future while both are denoised. ``fast_wam_idm``: the future
is imagined first, then read clean (in training noised half the time).
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.recipe import Axes, Phase, Recipe, Stage, Tower
from crossroads.recipes import nano
from crossroads.recipes.nano_video import VIDEO_FLOW
from crossroads.schedule import Commit, Denoise, Leg
from crossroads.streams import NOISED, NOW, Edge, Stream, View, reads

PAPER = "Yuan et al. 2026, arXiv 2603.16666"
DEPARTS = (
    "The robot state is a token of the expert's own sequence, as in pi0, instead of one more context token of both "
    "towers: the video tower's pretraining clips have no state.",
    "At nano size the action's noise levels are pi0's (Beta 1.5, 1), shared by all arms, and every flow takes 5 steps "
    "instead of 10.",
    "At nano size one camera at 64 px, 4 future frames and 12 actions instead of 8 and 32.",
    "The expert starts from random weights, not from interpolated weights of the video tower.",
)
TEACHER = View(kind="clean", noised_share=0.5)


def _recipe(name: str, axes: Axes, views: tuple[View, ...], extra: tuple[Edge, ...], legs: tuple[Leg, ...]) -> Recipe:
    """What the three forms share."""
    expert = replace(nano.EXPERT, context_width=nano.TEXT_TOWER.width)
    streams = (
        Stream(name="text", carries="text", codec=nano.TEXT, tower="text"),
        Stream(name="state", carries="state", codec=nano.STATE, tower="expert"),
        Stream(name="video", carries="video", codec=nano.VIDEO, tower="video", views=views, objective=VIDEO_FLOW),
        Stream(
            name="action",
            carries="action",
            codec=nano.ACTION,
            tower="expert",
            views=(NOISED,),
            objective=nano.ACTION_FLOW,
        ),
    )
    edges = (
        *reads("text", "text"),
        *reads("state", "video.now", "state"),
        *reads("video.now", "video.now"),
        *reads("video", "video.now", "video"),
        *reads("action", "video.now", "state", "action"),
        *reads("video.now", "text", via="cross"),
        *reads("video", "text", via="cross"),
        *reads("state", "text", via="cross"),
        *reads("action", "text", via="cross"),
        *extra,
    )
    return Recipe(
        name=name,
        paper=PAPER,
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(
                Tower(name="text", spec=nano.TEXT_TOWER, backbone="nano_video"),
                Tower(name="video", spec=nano.VIDEO_TOWER, backbone="nano_video"),
                Tower(name="expert", spec=expert),
            ),
            schedule=legs,
            sequence=("text",),
        ),
        phases=(
            Phase(name="full", trains=("video", "expert"), losses=("video", "action")),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=axes,
        departs=DEPARTS,
    )


_ACT = Denoise(streams=("action",), steps=nano.DENOISING_STEPS)


def fast_wam() -> Recipe:
    """The video loss in training, no imagination at act time."""
    return _recipe(
        "fast_wam",
        Axes(paradigm="representation_only", architecture="mixture_of_transformers", integration="tokens"),
        (NOW, NOISED),
        (),
        (_ACT,),
    )


def fast_wam_joint() -> Recipe:
    """The future and the actions are denoised together; actions read the future, never the other way round."""
    return _recipe(
        "fast_wam_joint",
        Axes(paradigm="joint_prediction", architecture="mixture_of_transformers", integration="tokens"),
        (NOW, NOISED),
        reads("action", "video"),
        (replace(_ACT, streams=("video", "action")),),
    )


def fast_wam_idm() -> Recipe:
    """Imagine, commit, act: the actions read the imagined future as if it had been observed."""
    imagine = Denoise(streams=("video",), steps=nano.DENOISING_STEPS, factor=5.0)
    clean = (*reads("video.clean", "video.now", "video.clean"), *reads("video.clean", "text", via="cross"))
    return _recipe(
        "fast_wam_idm",
        Axes(paradigm="inverse_dynamics", architecture="mixture_of_transformers", integration="tokens"),
        (NOW, NOISED, TEACHER),
        (*clean, *reads("action", "video.clean")),
        (imagine, Commit(stream="video"), _ACT),
    )
