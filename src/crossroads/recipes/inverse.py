"""Inverse models: which actions led from this frame to the next ones? They label video and read imagined clips.

Both are blind to the instruction by structure: they have no stream of words, so no path from one exists (an inverse
model that sees scene *and* words inherits the shortcuts of its few labels; evidence page, section 5.2).
``inverse_scene`` sees whole pictures through the language backbone's vision, frame by frame. ``inverse_motion`` sees
only where the hand was and will be, as numbers. Frame-pair inverse dynamics follow UniPi (arXiv 2302.00111) and VPT
(arXiv 2206.11795); ours reads the frame of now and four later ones and answers a whole chunk in one pass.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.codecs.state import StateToken
from crossroads.objectives import Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Clock, Edge, Stream, reads

PAPER = "control; inverse dynamics as in UniPi, arXiv 2302.00111, and VPT, arXiv 2206.11795"
FRAMES = replace(nano.IMAGE, ahead_s=nano.FUTURE_S)
ACTS = Stream(name="action", carries="action", codec=nano.ACTION, tower="expert", views=(NOISED,), objective=Regress())
NUM_MOMENTS = 1 + len(nano.FUTURE_S)


def inverse_scene() -> Recipe:
    """Whole pictures in, actions out."""
    return Recipe(
        name="inverse_scene",
        paper=PAPER,
        stage=Stage(
            name="inverse",
            streams=(Stream(name="image", carries="image", codec=FRAMES, tower="language"), ACTS),
            edges=(Edge(dst="image", src="image", when="same"), *reads("action", "image", "action")),
            towers=(
                Tower(name="language", spec=nano.LANGUAGE_TOWER, backbone="nano_vlm"),
                Tower(name="expert", spec=nano.WIDE_EXPERT),
            ),
            schedule=(Predict(streams=("action",)),),
            clock=Clock(tokens_per_block=(("image", nano.IMAGE.num_tokens("now")),)),
            sequence=("image", "action"),
        ),
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=("action",)),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="mixture_of_transformers", integration="tokens"),
    )


def inverse_motion() -> Recipe:
    """The hand's own places in, actions out; ``num_state`` numbers of every moment, one after the other."""
    return Recipe(
        name="inverse_motion",
        paper=PAPER,
        stage=Stage(
            name="inverse",
            streams=(
                Stream(
                    name="state",
                    carries="state",
                    codec=StateToken(num_state=NUM_MOMENTS * nano.NUM_STATE),
                    tower="expert",
                ),
                ACTS,
            ),
            edges=(*reads("state", "state"), *reads("action", "state", "action")),
            towers=(Tower(name="expert", spec=nano.WIDE_EXPERT),),
            schedule=(Predict(streams=("action",)),),
            sequence=("state", "action"),
        ),
        phases=(Phase(name="head", trains=("expert",), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="tokens"),
    )
