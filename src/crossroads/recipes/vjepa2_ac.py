"""V-JEPA 2-AC: a world model of frozen features, told actions, and a search for those that lead to a goal.

Assran et al. 2025, arXiv 2506.09985, section 3 (MIT). Each step's action and state stand in front of the features of
its frame; a predictor that reads all steps so far finds those of the next. It owes nothing for actions: they are given
in training, and searched when it acts. What is to be reached is an image (``known={"goal": ...}`` of ``settle``); where
none is given, a language model tells the goal's features from picture and words.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.objectives import Flow, Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.lapa import context_edges
from crossroads.recipes.vjepa2_ac_sizes import NANO, Search, VJepa2AcSize
from crossroads.schedule import Branch, Leg, Predict, Rank
from crossroads.stage import Mode, Phase, Stage, Tower
from crossroads.streams import NOISED, Clock, Stream, reads


def planned(search: Search, steps: int) -> tuple[Leg, ...]:
    """Rounds of drawing, rolling out (one pass takes the prediction a step further) and keeping the best."""
    rank = Rank(stream="video", towards="goal", settles=("action",), best=search.best, momentum=search.momentum)
    one_round = (Branch(num=search.samples), *[Predict(streams=("video",))] * steps, rank)
    return (Predict(streams=("goal",)), *one_round * search.rounds)


def vjepa2_ac(size: VJepa2AcSize = NANO) -> Recipe:
    """V-JEPA 2-AC at one of its sizes."""
    own, steps = ("state", "action", "video"), len(size.video.future_s)
    goal = replace(size.video, last=True)
    return Recipe(
        name="vjepa2_ac",
        paper="Assran et al. 2025, arXiv 2506.09985",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(
                    name="goal",
                    carries="plan",
                    codec=goal,
                    tower="language",
                    views=(NOISED,),
                    objective=Regress(),
                ),
                Stream(name="state", carries="state", codec=size.state, tower="predictor"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="predictor",
                    views=(NOISED,),
                    objective=Flow(),
                ),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="predictor",
                    views=(NOISED,),
                    objective=Regress(),
                ),
            ),
            edges=(
                *context_edges(causal=size.causal),
                *reads("goal", "image", "text", "goal"),
                *(edge for name in own for edge in reads(name, *own, when="upto")),
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="predictor", spec=size.predictor),
            ),
            schedule=planned(size.search, steps),
            clock=Clock(tokens_per_block=(("action", 1), ("video", size.video.per_frame))),
            sequence=("image", "text", "goal"),
        ),
        phases=(
            Phase(
                name="full",
                trains=("language", "predictor"),
                losses=("video", "goal"),
                modes=(Mode(name="world model", share=1.0, given=("action",)),),
            ),
        ),
        axes=Axes(paradigm="inverse_dynamics", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )
