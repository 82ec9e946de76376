"""DreamVLA: Seer with several kinds of knowledge to foresee, blind to each other, and a diffusion head for actions.

Zhang et al. 2025, arXiv 2507.04447 (no licence: the paper and measured shapes are the source). Queries for the action
read all that is foreseen at their step; a small transformer takes their states as tokens and denoises the actions.
"""

from __future__ import annotations

from crossroads.codecs.step_actions import StepSlots
from crossroads.diffusion import Ddim
from crossroads.objectives import Diffusion, Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.dreamvla_sizes import NANO, PROCESS, DreamVlaSize
from crossroads.recipes.foresight_sizes import OBSERVED
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Clock, Stream, reads


def dreamvla(size: DreamVlaSize = NANO) -> Recipe:
    """DreamVLA at one of its sizes."""
    known = tuple(part.name for part in size.knowledge)
    seen = size.observed.image.steps.num
    asked = {part.name: part.codec.num_tokens("noised") // seen for part in size.knowledge}
    per_step = {"text": 1, "state": 1, "image": size.observed.image.per_step, **asked}
    per_step |= {"cognition": size.cognition.num, "slot": size.head.slots, "action": size.action.num_actions}
    slots = StepSlots(num=size.head.slots, steps=size.action.steps)
    foreseen = tuple(
        Stream(
            name=part.name,
            carries="video",
            codec=part.codec,
            tower="policy",
            views=(NOISED,),
            objective=Regress(error="squared", weight=part.weight),
        )
        for part in size.knowledge
    )
    action = Stream(
        name="action",
        carries="action",
        codec=size.action,
        tower="head",
        views=(NOISED,),
        objective=Diffusion(process=PROCESS),
    )
    return Recipe(
        name="dreamvla",
        paper="Zhang et al. 2025, arXiv 2507.04447",
        stage=Stage(
            name="policy",
            streams=(
                *size.observed.observed(),
                *foreseen,
                Stream(name="cognition", carries="plan", codec=size.cognition, tower="policy"),
                Stream(name="slot", carries="plan", codec=slots, tower="head", told="action"),
                action,
            ),
            edges=(
                *(edge for g in (*OBSERVED, *known, "cognition") for edge in reads(g, *OBSERVED, when="upto")),
                *reads("cognition", *known, when="same"),
                *(edge for group in ("slot", "action") for edge in reads(group, "slot", "action", when="same")),
                *(edge for group in ("slot", "action") for edge in reads(group, "cognition", via="cross")),
            ),
            towers=(Tower(name="policy", spec=size.observed.tower), Tower(name="head", spec=size.head)),
            schedule=(
                Denoise(streams=("action",), solver=Ddim(process=PROCESS, steps=size.denoising_steps, clip=None)),
            ),
            clock=Clock(block_s=size.action.steps.apart_s, tokens_per_block=tuple(per_step.items())),
        ),
        phases=(Phase(name="full", trains=("policy", "head"), losses=("action", *known)),),
        axes=Axes(paradigm="inverse_dynamics", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
        because=(
            "Actions read the states of what is foreseen in the pass that makes them; no leg settles them first.",
        ),
    )
