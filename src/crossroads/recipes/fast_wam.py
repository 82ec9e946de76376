"""Fast-WAM and its two imagining forms: one mixture of a video model and an action expert, three sets of edges.

Yuan et al. 2026, arXiv 2603.16666 (MIT). ``fast_wam``: actions read only the frame of now, the video loss is there
in training alone. ``fast_wam_joint``: actions read the future while both are denoised. ``fast_wam_idm``: the future
is imagined first, then read clean (in training noised half the time). Sizes are in ``fast_wam_sizes``.
"""

from __future__ import annotations

from crossroads.recipe import Axes, Recipe
from crossroads.recipes.fast_wam_sizes import NANO, FastWamSize
from crossroads.schedule import Commit, Denoise, Leg
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Edge, Stream, View, reads

PAPER = "Yuan et al. 2026, arXiv 2603.16666"
TEACHER = View(kind="clean", noised_share=0.5)


def _recipe(
    name: str, size: FastWamSize, axes: Axes, views: tuple[View, ...], extra: tuple[Edge, ...], legs: tuple[Leg, ...]
) -> Recipe:
    """What the three forms share."""
    state_tower = "expert" if size.state_in_expert else "text"
    streams = (
        Stream(name="text", carries="text", codec=size.text, tower="text"),
        Stream(name="state", carries="state", codec=size.state, tower=state_tower),
        Stream(name="video", carries="video", codec=size.video, tower="video", views=views, objective=size.video_flow),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="expert",
            views=(NOISED,),
            objective=size.action_flow,
        ),
    )
    if size.state_in_expert:
        told = (*reads("state", "video.now", "state"), *reads("action", "state"), *reads("state", "text", via="cross"))
        contexts: tuple[str, ...] = ("text",)
    else:
        told, contexts = (), ("state", "text")
    readers = ("video.now", "video", "action", *(("video.clean",) if TEACHER in views else ()))
    edges = (
        *reads("text", "text"),
        *reads("video.now", "video.now"),
        *reads("video", "video.now", "video"),
        *reads("action", "video.now", "action"),
        *told,
        *(edge for reader in readers for edge in reads(reader, *contexts, via="cross")),
        *extra,
    )
    words = () if size.state_in_expert else ("text",)  # the state's projection into the words is trained
    return Recipe(
        name=name,
        paper=PAPER,
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                Tower(name="video", spec=size.video_tower, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=legs,
            sequence=("text",),
        ),
        phases=(
            Phase(name="full", trains=(*words, "video", "expert"), losses=("video", "action")),
            Phase(name="head", trains=(*words, "expert"), losses=("action",)),
        ),
        axes=axes,
        departs=size.departs,
    )


def _act(size: FastWamSize, *streams: str) -> Denoise:
    return Denoise(streams=streams, solver=Euler(steps=size.denoising_steps, factor=size.action_shift))


def fast_wam(size: FastWamSize = NANO) -> Recipe:
    """The video loss in training, no imagination at act time."""
    return _recipe(
        "fast_wam",
        size,
        Axes(paradigm="representation_only", architecture="mixture_of_transformers", integration="tokens"),
        (NOW, NOISED),
        (),
        (_act(size, "action"),),
    )


def fast_wam_joint(size: FastWamSize = NANO) -> Recipe:
    """The future and the actions are denoised together; actions read the future, never the other way round."""
    return _recipe(
        "fast_wam_joint",
        size,
        Axes(paradigm="joint_prediction", architecture="mixture_of_transformers", integration="tokens"),
        (NOW, NOISED),
        reads("action", "video"),
        (_act(size, "video", "action"),),
    )


def fast_wam_idm(size: FastWamSize = NANO) -> Recipe:
    """Imagine, commit, act: the actions read the imagined future as if it had been observed."""
    imagine = Denoise(streams=("video",), solver=Euler(steps=size.denoising_steps, factor=size.video_shift))
    return _recipe(
        "fast_wam_idm",
        size,
        Axes(paradigm="inverse_dynamics", architecture="mixture_of_transformers", integration="tokens"),
        (NOW, NOISED, TEACHER),
        (*reads("video.clean", "video.now", "video.clean"), *reads("action", "video.clean")),
        (imagine, Commit(stream="video"), _act(size, "action")),
    )
