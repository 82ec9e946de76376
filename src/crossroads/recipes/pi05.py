"""pi0.5: pi0 with the robot's state in the prompt, a subtask that it writes first, and an expert whose norms are told
the level.

Physical Intelligence 2025, arXiv 2504.16054; openpi (Apache-2.0), which trains and serves the flow alone. Image, prompt
and subtask are the language model's; the actions read all three and each other; nothing reads the actions.
"""

from __future__ import annotations

from crossroads.recipe import Axes, Recipe
from crossroads.recipes.pi05_sizes import NANO, Pi05Size
from crossroads.schedule import Decode, Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads


def pi05(size: Pi05Size = NANO) -> Recipe:
    """pi0.5 at one of its sizes."""
    words = ("image", "text") if size.subtask is None else ("image", "text", "subtask")
    write = () if size.subtask is None else (Decode(stream="subtask", max_tokens=size.most_written),)
    return Recipe(
        name="pi05",
        paper="Physical Intelligence 2025, arXiv 2504.16054",
        stage=Stage(
            name="policy",
            streams=(*language_streams(size), action_stream(size)),
            edges=(*language_edges(size), *reads("action", *words, "action")),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(*write, Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps))),
            sequence=(*words, "action"),
        ),
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=(*words[2:], "action")),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="mixture_of_transformers", integration="tokens"),
        departs=size.departs,
    )


def language_streams(size: Pi05Size) -> tuple[Stream, ...]:
    """Image, prompt and, where it is written, the subtask in the prompt's vocabulary."""
    seen = (
        Stream(name="image", carries="image", codec=size.image, tower="language"),
        Stream(name="text", carries="text", codec=size.text, tower="language"),
    )
    if size.subtask is None:
        return seen
    subtask = Stream(
        name="subtask",
        carries="text",
        codec=size.subtask,
        tower="language",
        views=(NOISED,),
        objective=size.next_token,
        shares="text",
    )
    return (*seen, subtask)


def language_edges(size: Pi05Size) -> tuple[Edge, ...]:
    """Image and prompt read each other; the subtask reads both and, word by word, itself."""
    seen = (*reads("image", "image", "text"), *reads("text", "image", "text"))
    if size.subtask is None:
        return seen
    return (*seen, *reads("subtask", "image", "text"), Edge(dst="subtask", src="subtask", when="causal"))


def action_stream(size: Pi05Size) -> Stream:
    """The actions of the flow."""
    return Stream(
        name="action", carries="action", codec=size.action, tower="expert", views=(NOISED,), objective=size.action_flow
    )
