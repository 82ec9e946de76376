"""UWM: actions and later frames in one diffusion transformer, each noised by a step of its own.

Zhu et al. 2025, arXiv 2504.02792 (WEIRDLabUW/unified-world-model). Every token reads every other; the blocks are told
both levels and what is seen now. What stays noise is not asked about, what is given stands at level 0, and so one
network answers five questions, which differ in the schedule alone (``QUESTIONS``, as of Motus).
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.diffusion import Ddim
from crossroads.objectives import Diffusion
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.motus import INVERSE_DYNAMICS, JOINT, QUESTIONS, VIDEO, VLA, WORLD_MODEL, Question
from crossroads.recipes.uwm_sizes import NANO, UwmSize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads

POLICY, FORWARD = VLA, WORLD_MODEL
TOKENS, LEVELS = ("action", "video", "registers"), ("action", "video")
HELD = ("Learned jointly; acting, as published, holds the later frames at noise.",)
__all__ = ["FORWARD", "INVERSE_DYNAMICS", "JOINT", "POLICY", "QUESTIONS", "VIDEO", "uwm", "uwm_current"]


def uwm_tokens(size: UwmSize) -> tuple[Stream, ...]:
    """What the transformer runs."""
    learned = Diffusion(process=size.process)
    registers = Stream(name="registers", carries="plan", codec=size.registers, tower="model", hears=LEVELS)
    return (
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="model",
            views=(NOISED,),
            objective=learned,
            hears=LEVELS,
        ),
        Stream(
            name="video",
            carries="video",
            codec=size.video,
            tower="model",
            views=(NOISED,),
            objective=learned,
            hears=LEVELS,
        ),
        *([registers] if size.registers.num else []),
    )


def token_groups(size: UwmSize) -> tuple[str, ...]:
    """The groups that read each other, in their order on the line of places."""
    return TOKENS if size.registers.num else TOKENS[:2]


def uwm_schedule(size: UwmSize, question: Question) -> tuple[Denoise, ...]:
    """How a question is answered."""
    solver = Ddim(process=size.process, steps=size.denoising_steps, clip=size.clip)
    return tuple(Denoise(streams=leg, solver=solver) for leg in question.legs)


def uwm(size: UwmSize = NANO, *, question: Question = POLICY) -> Recipe:
    """UWM at one of its sizes, with the schedule of one question."""
    streams = (
        Stream(name="image", carries="image", codec=size.image, tower="image"),
        Stream(name="text", carries="text", codec=size.text, tower="text"),
        *uwm_tokens(size),
    )
    towers = (
        Tower(name="image", spec=size.image_tower),
        Tower(name="text", spec=size.text_tower),
        Tower(name="model", spec=size.tower),
    )
    tokens = token_groups(size)
    edges: tuple[Edge, ...] = (
        *(edge for group in tokens for edge in reads(group, *tokens)),
        *(edge for group in tokens for edge in reads(group, "image", via="cross")),
        *(edge for group in tokens for edge in reads(group, "text", via="modulate")),
    )
    return Recipe(
        name="uwm",
        paper="Zhu et al. 2025, arXiv 2504.02792",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=towers,
            schedule=uwm_schedule(size, question),
        ),
        phases=(Phase(name="full", trains=tuple(tower.name for tower in towers), losses=LEVELS),),
        axes=Axes(
            paradigm="joint_prediction" if question is POLICY else question.paradigm,
            architecture="monolithic",
            integration="tokens",
        ),
        because=HELD if question is POLICY else (),
        departs=size.departs,
    )


def uwm_current(size: UwmSize = NANO) -> Recipe:
    """The paper's control: the network reconstructs the frame that is seen now in place of later ones."""
    now = tuple(0.0 for _ in size.video.future_s)
    return replace(uwm(replace(size, video=replace(size.video, future_s=now))), name="uwm_current")
