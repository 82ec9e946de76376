"""LingBot-VA: one causal sequence in which each chunk of video is imagined first, and the actions are read off it.

Li et al. 2026, arXiv 2601.21998; code Robbyant/lingbot-va and LeRobot's port (Apache-2.0). Chunks of video and action
take turns, video first; a chunk that is noised reads itself and the clean chunks before it, a clean one those up to
itself. ``lingbot_va`` is the released form, one trunk for both; ``lingbot_va_towers`` the paper's, a narrow tower for
the actions. Sizes are in ``lingbot_va_sizes``.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.noise import BellWeight, UniformLevels
from crossroads.objectives import Flow
from crossroads.recipe import Architecture, Axes, Recipe
from crossroads.recipes.lingbot_va_sizes import NANO, LingBotVaSize
from crossroads.schedule import Commit, Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import CLEAN, NOISED, NOW, Clock, Edge, Stream, View, reads

PAPER = "LingBot-VA, arXiv 2601.21998"
TURNS: tuple[str, ...] = ("video", "action")
"""Within a block of the clock the chunk of video comes before the chunk of actions."""


def lingbot_va(size: LingBotVaSize = NANO) -> Recipe:
    """The released form: one trunk, in which actions have their own ends and their own embedding of levels."""
    trunk = replace(size.video_tower, beside_levels=True)
    towers = (Tower(name="video", spec=trunk, backbone=size.backbone),)
    return _recipe("lingbot_va", size, towers, "monolithic")


def lingbot_va_towers(size: LingBotVaSize = NANO) -> Recipe:
    """The paper's form: video and actions in towers of their own, which share each softmax."""
    towers = (
        Tower(name="video", spec=size.video_tower, backbone=size.backbone),
        Tower(name="expert", spec=size.expert),
    )
    return _recipe("lingbot_va_towers", size, towers, "mixture_of_transformers")


def _recipe(name: str, size: LingBotVaSize, towers: tuple[Tower, ...], architecture: Architecture) -> Recipe:
    """What both forms share."""
    per_frame = size.video.num_tokens("now")
    history = View(kind="clean", noised_share=0.5, levels=UniformLevels(factor=size.video_shift, upto=0.5))
    groups = ("video.now", "video.clean", "video", "action.clean", "action")
    return Recipe(
        name=name,
        paper=PAPER,
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video",
                    views=(NOW, NOISED, history),
                    objective=_flow(size.video_shift),
                ),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower=towers[-1].name,
                    views=(NOISED, CLEAN),
                    objective=_flow(size.action_shift),
                ),
            ),
            edges=(
                *reads("text", "text"),
                *(edge for group in groups for edge in reads(group, "video.now")),
                *(edge for stream in TURNS for edge in reads(stream, stream, when="same")),
                *(edge for stream in TURNS for edge in _past(stream, stream, size.window)),
                *(edge for stream in TURNS for edge in _past(stream, f"{stream}.clean", size.window)),
                *(edge for group in groups for edge in reads(group, "text", via="cross")),
            ),
            towers=(Tower(name="text", spec=size.text_tower, backbone=size.backbone), *towers),
            schedule=(
                Commit(stream="video", observed=True),
                Commit(stream="action", observed=True),
                Denoise(streams=("video",), solver=Euler(steps=size.video_steps, factor=size.video_shift)),
                Commit(stream="video"),
                Denoise(streams=("action",), solver=Euler(steps=size.action_steps, factor=size.action_shift)),
            ),
            clock=Clock(
                block_s=size.frames_per_chunk * size.action.per_frame / size.action.control_hz,
                tokens_per_block=(
                    ("video", size.frames_per_chunk * per_frame),
                    ("action", size.frames_per_chunk * size.action.per_frame),
                ),
                levels_per_block=size.frames_per_chunk,
            ),
            sequence=("text",),
        ),
        phases=(Phase(name="full", trains=tuple(tower.name for tower in towers), losses=TURNS),),
        axes=Axes(paradigm="inverse_dynamics", architecture=architecture, integration="tokens"),
        departs=size.departs,
    )


def _flow(shift: float) -> Flow:
    return Flow(levels=UniformLevels(factor=shift), level_weight=BellWeight(factor=shift))


def _past(stream: str, group: str, window: int | None) -> tuple[Edge, ...]:
    """The clean chunks that a group of a stream reads: those before its own, which a clean group reads as well.

    ``window`` counts chunks of both kinds; an edge counts blocks, of one chunk of each.
    """
    edges = []
    for src in TURNS:
        turns = TURNS.index(stream) - TURNS.index(src)  # from a chunk of the source to one of the reader, in one block
        own = turns > 0 or (turns == 0 and group.endswith(".clean"))
        blocks = None if window is None else (window - turns) // 2
        edges.append(Edge(dst=group, src=f"{src}.clean", when="upto" if own else "past", window=blocks))
    return tuple(edges)
