"""PAD: later frames and the chunk of actions are denoised together, as tokens of one diffusion transformer.

Guo et al. 2024, arXiv 2411.18179 (Robert-gyj/Prediction_with_Action, MIT). Both have one noise level. The latents of
the frame of now enter beside the noised ones of the later frames, place by place; all actions are one token, beside
the state; a vector of the words is added to the level. Frames do not read the actions.
"""

from __future__ import annotations

from crossroads.diffusion import Ddpm
from crossroads.objectives import Diffusion
from crossroads.recipe import Axes, Recipe
from crossroads.recipes.pad_sizes import NANO, PadSize
from crossroads.schedule import Denoise
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads

TOKENS = ("action", "video")


def pad_tokens(size: PadSize) -> tuple[Stream, ...]:
    """What the transformer runs."""
    learned = Diffusion(process=size.process)
    return (
        Stream(name="action", carries="action", codec=size.action, tower="model", views=(NOISED,), objective=learned),
        Stream(name="video", carries="video", codec=size.video, tower="model", views=(NOISED,), objective=learned),
    )


def pad_edges(*others: str, blind: bool = True) -> tuple[Edge, ...]:
    """All read all, but where frames are ``blind`` to the rest, they read themselves alone."""
    groups = (*TOKENS, *others)
    seen = {"video": ("video",)} if blind else {}
    return tuple(edge for group in groups for edge in reads(group, *seen.get(group, groups)))


def pad(size: PadSize = NANO) -> Recipe:
    """PAD at one of its sizes."""
    solver = Ddpm(process=size.process, steps=size.denoising_steps, spacing="linspace", clip=None)
    return Recipe(
        name="pad",
        paper="Guo et al. 2024, arXiv 2411.18179",
        stage=Stage(
            name="policy",
            streams=(Stream(name="text", carries="text", codec=size.text, tower="text"), *pad_tokens(size)),
            edges=(*pad_edges(), *(edge for group in TOKENS for edge in reads(group, "text", via="modulate"))),
            towers=(Tower(name="text", spec=size.text_tower), Tower(name="model", spec=size.tower)),
            schedule=(Denoise(streams=("video", "action"), solver=solver),),
            coupled=(("video", "action"),),
        ),
        phases=(Phase(name="full", trains=("text", "model"), losses=("video", "action")),),
        axes=Axes(paradigm="joint_prediction", architecture="monolithic", integration="tokens"),
        departs=size.departs,
    )
