"""VLA Foundry's policy: one token of a vision-language model says all that a small diffusion transformer is told.

TRI 2026, arXiv 2604.19728; TRI-ML/vla_foundry (MIT). A learned token at the end of the prompt reads pictures and words;
its states of the last layers, side by side, are handed to a transformer as the first token of the sequence of state
and noised actions, together with a learned row for the noise level.
"""

from __future__ import annotations

from crossroads.recipe import Axes, Recipe
from crossroads.recipes.vla_foundry_sizes import NANO, FoundrySize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads


def head_groups(size: FoundrySize) -> tuple[str, ...]:
    """The head's sequence, in order."""
    return ("told", *(("state",) if size.state else ()), "action")


def head_streams(size: FoundrySize) -> tuple[Stream, ...]:
    """What the head is told, the state if it is shown, the actions."""
    return (
        Stream(name="told", carries="plan", codec=size.told, tower="head", told="action"),
        *(Stream(name="state", carries="state", codec=one, tower="head") for one in (size.state,) if one),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="head",
            views=(NOISED,),
            objective=size.action_flow,
        ),
    )


def head_edges(size: FoundrySize) -> tuple[Edge, ...]:
    """The head reads itself, all or in order, and hands on what it is told."""
    groups = head_groups(size)
    own = [edge for group in groups for edge in reads(group, *groups)]
    if size.causal:
        before = [edge for at, group in enumerate(groups) for edge in reads(group, *groups[:at])]
        own = [*before, *(Edge(dst=group, src=group, when="causal") for group in groups)]
    return (*own, *reads("told", *size.told.sources, via="value"))


def vla_foundry(size: FoundrySize = NANO) -> Recipe:
    """VLA Foundry's policy at one of its sizes."""
    return Recipe(
        name="vla_foundry",
        paper="TRI 2026, arXiv 2604.19728",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(name="probe", carries="plan", codec=size.probe, tower="language"),
                *head_streams(size),
            ),
            edges=(
                *reads("image", "image", "text"),
                *reads("text", "image", "text"),
                *reads("probe", "image", "text", "probe"),
                *head_edges(size),
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="head", spec=size.head),
            ),
            schedule=(Denoise(streams=("action",), solver=size.solver),),
            sequence=("image", "text", "probe", *head_groups(size)),
        ),
        phases=(
            Phase(name="full", trains=("language", "head"), losses=("action",)),
            Phase(name="head", trains=("head",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="hierarchical", integration="tokens"),
        departs=size.departs,
    )
