"""DiT4DiT: an action head reads the hidden states that a video model has of a future that is still pure noise.

Ma et al. 2026, arXiv 2603.10448 (MIT). Two diffusion transformers in a row, learned at the same time. The video model
runs twice on the frame of now: beside the future at a drawn level, which is its own lesson (``video``), and beside pure
noise (``glimpse``), where the head reads one of its layers, without a gradient. To act, one such pass is enough.
"""

from __future__ import annotations

from crossroads.noise import FixedLevel
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.dit4dit_sizes import NANO, Dit4DitSize
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, NOW, Edge, Stream, reads

GLIMPSE = Flow(levels=FixedLevel(level=1.0))
"""No phase counts its loss."""


def head_streams(size: Dit4DitSize) -> tuple[Stream, Stream]:
    """State and actions, one sequence of the head; the state is told the actions' level."""
    return (
        Stream(name="state", carries="state", codec=size.state, tower="expert", told="action"),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="expert",
            views=(NOISED,),
            objective=size.action_flow,
        ),
    )


def head_edges(*sources: str, tap: int | None) -> tuple[Edge, ...]:
    """The head reads itself, and across, without a gradient, what the video model makes of some groups."""
    groups = ("state", "action")
    return (
        *(edge for group in groups for edge in reads(group, *groups)),
        *(Edge(dst=group, src=src, via="cross", grad=False, tap=tap) for group in groups for src in sources),
    )


def dit4dit(size: Dit4DitSize = NANO) -> Recipe:
    """DiT4DiT at one of its sizes."""
    copies = {"video": size.video_flow, "glimpse": GLIMPSE}
    ahead = [(f"{name}.now", name) for name in copies] if size.sees_ahead else []
    return Recipe(
        name="dit4dit",
        paper="Ma et al. 2026, arXiv 2603.10448",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="text", carries="text", codec=size.text, tower="text"),
                *(
                    Stream(
                        name=name,
                        carries="video",
                        codec=size.video,
                        tower="video",
                        views=(NOW, NOISED),
                        objective=flow,
                        shares=None if name == "video" else "video",
                    )
                    for name, flow in copies.items()
                ),
                *head_streams(size),
            ),
            edges=(
                *reads("text", "text"),
                *(edge for name in copies for edge in reads(f"{name}.now", f"{name}.now")),
                *(edge for name in copies for edge in reads(name, f"{name}.now", name)),
                *(edge for now, future in ahead for edge in reads(now, future)),
                *(
                    edge
                    for name in copies
                    for group in (f"{name}.now", name)
                    for edge in reads(group, "text", via="cross")
                ),
                *head_edges("glimpse.now", "glimpse", tap=size.tap),
            ),
            towers=(
                Tower(name="text", spec=size.text_tower, backbone=size.backbone),
                Tower(name="video", spec=size.video_tower, backbone=size.backbone),
                Tower(name="expert", spec=size.head),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            sequence=("text",),
        ),
        phases=(
            Phase(name="full", trains=("text", "video", "expert"), losses=("video", "action")),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="representation_only", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )
