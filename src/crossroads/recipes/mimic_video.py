"""mimic-video: actions are read off a video model's hidden states of a future that is denoised as far as one likes.

Pai et al. 2025, arXiv 2512.15692. The video model learns from its own loss alone, beside the actions (phase
``full``) or before them (``head``). The actions read one of its layers
across, at whatever noise the future has, and are told that level beside their own; in training it is any level, so when
acting it is a dial (:func:`at_level`): 1 asks the video model once about pure noise, 0 imagines the whole future first.
"""

from __future__ import annotations

from crossroads.errors import InputError
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.mimic_video_sizes import NANO, MimicVideoSize
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Edge, Stream, reads

ACTS = ("state", "action")
AT_ONCE = ("The paper calls one look at a future that is still noise inverse dynamics on a latent plan.",)


def mimic_heads(size: MimicVideoSize) -> tuple[Stream, ...]:
    """State and actions, one sequence, which hears the video's level."""
    return (
        Stream(name="state", carries="state", codec=size.state, tower="expert", hears=("video",)),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="expert",
            views=(NOISED,),
            objective=size.action_flow,
            hears=("video",),
        ),
    )


def mimic_edges(*sources: str, tap: int | None) -> tuple[Edge, ...]:
    """State and actions read each other, and across, without a gradient, the video model."""
    return (
        *(edge for group in ACTS for edge in reads(group, *ACTS)),
        *(Edge(dst=group, src=src, via="cross", grad=False, tap=tap) for group in ACTS for src in sources),
    )


def mimic_schedule(size: MimicVideoSize, level: float) -> tuple[Denoise, ...]:
    """The video down to a level, if that is not where it starts; then the actions."""
    if not 0 <= level <= 1:
        raise InputError(where="mimic_video, level", expected="from 0 to 1", got=f"{level:g}", do="Choose another.")
    walk = Euler(steps=size.video_steps, factor=size.shift, stop=level)
    video = (Denoise(streams=("video",), solver=walk),) if level < 1 else ()
    return (*video, Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)))


def at_level(recipe: Recipe, level: float, size: MimicVideoSize = NANO) -> Recipe:
    """The same recipe, and the same weights, acting on a future at another level of noise."""
    return recipe.vary({"stage.schedule": mimic_schedule(size, level)})


def mimic_video(size: MimicVideoSize = NANO, *, level: float = 1.0) -> Recipe:
    """mimic-video at one of its sizes; published acts on a future at 0.988, before the first step of its solver."""
    ahead = reads("video.now", "video") if size.sees_ahead else ()
    return Recipe(
        name="mimic_video",
        paper="Pai et al. 2025, arXiv 2512.15692",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                Stream(
                    name="video",
                    carries="video",
                    codec=size.video,
                    tower="video",
                    views=(NOW, NOISED),
                    objective=size.video_flow,
                ),
                *mimic_heads(size),
            ),
            edges=(
                *reads("text", "text"),
                *reads("video.now", "video.now"),
                *reads("video", "video.now", "video"),
                *ahead,
                *(edge for group in ("video.now", "video") for edge in reads(group, "text", via="cross")),
                *mimic_edges("video.now", "video", tap=size.tap),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                Tower(name="video", spec=size.video_tower, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=mimic_schedule(size, level),
            sequence=("text",),
        ),
        phases=(
            Phase(
                name="full",
                trains=("text", "video", "expert") if size.backbone else ("video", "expert"),
                losses=("video", "action"),
            ),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="inverse_dynamics", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
        because=AT_ONCE,
    )
