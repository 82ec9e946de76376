"""Motus: a video model, an understanding expert and an action expert in one softmax, each stream at its own level.

Bi et al. 2025, arXiv 2512.13030 (thu-ml/Motus). Everything reads everything. Levels of video and actions are drawn
independently, so one network answers five questions, which differ in the schedule alone (``QUESTIONS``): what is given
stands at level 0, what is ignored stays noise, what is asked is denoised.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.recipe import Axes, Paradigm, Recipe
from crossroads.recipes.motus_sizes import NANO, MotusSize
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Stream, reads


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is denoised, leg after leg, and where that stands. A stream of an earlier leg is at level 0 in the later
    ones; ``StreamPolicy.settle(known=...)`` gives its value."""

    legs: tuple[tuple[str, ...], ...]
    paradigm: Paradigm


JOINT = Question(legs=(("video", "action"),), paradigm="joint_prediction")
VLA = Question(legs=(("action",),), paradigm="representation_only")
WORLD_MODEL = Question(legs=(("action",), ("video",)), paradigm="representation_only")
INVERSE_DYNAMICS = Question(legs=(("video",), ("action",)), paradigm="inverse_dynamics")
VIDEO = Question(legs=(("video",),), paradigm="representation_only")
QUESTIONS = {"joint": JOINT, "vla": VLA, "world": WORLD_MODEL, "inverse": INVERSE_DYNAMICS, "video": VIDEO}


def motus(size: MotusSize = NANO, *, question: Question = JOINT) -> Recipe:
    """Motus at one of its sizes, with the schedule of one question."""
    streams = (
        Stream(name="text", carries="text", codec=size.text, tower="text"),
        Stream(name="image", carries="image", codec=size.image, tower="language"),
        Stream(
            name="video",
            carries="video",
            codec=size.video,
            tower="video",
            views=(NOW, NOISED),
            objective=size.video_flow,
            told="video",
        ),
        Stream(name="state", carries="state", codec=size.state, tower="expert", told="action"),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="expert",
            views=(NOISED,),
            objective=size.action_flow,
        ),
        Stream(name="registers", carries="plan", codec=size.registers, tower="expert", told="action"),
    )
    joined = ("image", "video.now", "video", "state", "action", "registers")
    return Recipe(
        name="motus",
        paper="Bi et al. 2025, arXiv 2512.13030",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=(
                *reads("text", "text"),
                *(edge for group in joined for edge in reads(group, *joined)),
                *(edge for group in ("video.now", "video") for edge in reads(group, "text", via="cross")),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.video_backbone),
                Tower(name="video", spec=size.video_tower, backbone=size.video_backbone),
                Tower(name="language", spec=size.language, backbone=size.language_backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=tuple(Denoise(streams=leg, solver=Euler(steps=size.denoising_steps)) for leg in question.legs),
            sequence=("text",),
        ),
        phases=(Phase(name="full", trains=("video", "language", "expert"), losses=("video", "action")),),
        axes=Axes(paradigm=question.paradigm, architecture="mixture_of_transformers", integration="tokens"),
        departs=size.departs,
    )
