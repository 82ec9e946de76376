"""DreamZero: one video model denoises each block of frames together with its actions, after the clean past.

Ye et al. 2026, arXiv 2602.15922; code dreamzero0/dreamzero (Apache-2.0). The clip is present clean and noised: a noised
block reads the frame of now, the clean blocks before it, its own actions and its own state; the clean copy reads the
frame of now and what lies in its window. One call of ``act`` answers one block; what the cameras saw meanwhile is
then committed in place of what had been imagined.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.noise import BellWeight, BetaLevels, UniformLevels
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.dreamzero_sizes import FLASH_NANO, NANO, SHIFT, DreamZeroSize
from crossroads.schedule import Commit, Denoise
from crossroads.solvers import UniPC
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import CLEAN, NOISED, NOW, Clock, Edge, Stream, reads
from crossroads.towers.given import Given


def dreamzero(size: DreamZeroSize = NANO) -> Recipe:
    """DreamZero at one of its sizes."""
    per_frame = size.video.num_tokens("now")
    window = size.local_frames / size.frames_per_block - 1
    flow = Flow(levels=UniformLevels(factor=SHIFT), level_weight=BellWeight(factor=SHIFT))
    contexts = ("text",) if size.image is None else ("text", "image")
    groups = ("video.now", "video.clean", "video", "action", "state")
    extra = () if size.image is None else (Stream(name="image", carries="image", codec=size.image, tower="image"),)
    towers = () if size.image is None else (Tower(name="image", spec=Given(width=size.image.width)),)
    return Recipe(
        name="dreamzero",
        paper="Ye et al. 2026, arXiv 2602.15922",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                *extra,
                Stream(name="state", carries="state", codec=size.state, tower="video", told="action"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video",
                    views=(NOW, NOISED, CLEAN),
                    objective=flow,
                ),
                Stream(
                    name="action", carries="action", codec=size.action, tower="video", views=(NOISED,), objective=flow
                ),
            ),
            edges=(
                *(edge for name in contexts for edge in reads(name, name)),
                *reads("video.now", "video.now"),
                *reads("video.clean", "video.now"),
                Edge(dst="video.clean", src="video.clean", when="upto", window=window),
                *(edge for name in ("video", "action") for edge in _denoised(name)),
                *reads("state", "state", when="same"),
                *(edge for name in groups for edge in reads(name, *contexts, via="cross")),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                *towers,
                Tower(name="video", spec=size.video_tower, backbone=size.backbone),
            ),
            schedule=(
                Commit(stream="video", observed=True),
                Denoise(
                    streams=("video", "action"),
                    solver=UniPC(steps=size.denoising_steps, factor=SHIFT),
                    guidance=size.guidance,
                    skipping=size.skipping,
                ),
            ),
            clock=Clock(
                block_s=size.action.num_actions / size.action.control_hz / size.num_blocks,
                tokens_per_block=(
                    ("video", size.frames_per_block * per_frame),
                    ("action", size.action.num_actions // size.num_blocks),
                    ("state", 1),
                ),
            ),
            sequence=("text",),
            coupled=(("video", "action"),),
        ),
        phases=(Phase(name="full", trains=("video",), losses=("video", "action")),),
        axes=Axes(paradigm="joint_prediction", architecture="monolithic", integration="tokens"),
        departs=size.departs,
    )


def _denoised(name: str) -> tuple[Edge, ...]:
    """What a block of noised frames or actions reads."""
    return (
        *reads(name, "video.now"),
        *reads(name, "video.clean", when="past"),
        *reads(name, "video", "action", "state", when="same"),
    )


def as_served(recipe: Recipe) -> Recipe:
    """The edges of the published server, which are not those of its training: it keeps keys of the last
    ``local_frames`` alone, the frame of now and what is being denoised included, and the state reads all of them.

    With every edge windowed, acting would drop the oldest block and go on; the server starts anew in any case."""
    window = next(edge.window for edge in recipe.stage.edges if edge.window is not None)
    edges = [edge for edge in recipe.stage.edges if edge.via == "cross" or edge.src in ("text", "image")]
    edges += [
        *reads("video.now", "video.now"),
        Edge(dst="video.clean", src="video.clean", when="upto", window=window),
    ]
    for name in ("video.clean", "video", "action", "state"):
        edges.append(Edge(dst=name, src="video.now", when="past", window=window))
    for name in ("video", "action", "state"):
        edges.append(Edge(dst=name, src="video.clean", when="past", window=window))
        edges += reads(name, "video", "action", "state", when="same")
    return replace(recipe, name="dreamzero_as_served", stage=replace(recipe.stage, edges=tuple(edges)))


def dreamzero_flash(size: DreamZeroSize = FLASH_NANO) -> Recipe:
    """DreamZero-Flash, for few steps: actions learn to be right while the video is still noise.

    In training the video's levels are Beta(7, 1) and the actions' their own; at act time the video stops at 0.8.
    """
    levels = BetaLevels(alpha=7.0, scale=1.0, offset=0.0, factor=SHIFT)
    recipe = dreamzero(size).vary(
        {
            "stage.coupled": (),
            "stage.streams.video.objective.levels": levels,
            "stage.schedule.1.ends": (("video", 0.8),),
        }
    )
    return replace(recipe, name="dreamzero_flash")
