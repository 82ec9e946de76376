"""nano-vlm: the vision-language model that the vision-language-action arms stand on.

Image tokens and prompt read each other in full (prefix), the answer is causal (PaliGemma, arXiv 2407.07726).
"""

from __future__ import annotations

from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Decode
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads


def nano_vlm() -> Recipe:
    """The recipe at its only size."""
    streams = (
        Stream(name="image", carries="image", codec=nano.IMAGE, tower="language"),
        Stream(name="text", carries="text", codec=nano.PROMPT, tower="language"),
        Stream(
            name="answer",
            carries="text",
            codec=nano.ANSWER,
            tower="language",
            views=(NOISED,),
            objective=nano.NEXT_TOKEN,
            shares="text",
        ),
    )
    edges = (
        *reads("image", "image", "text"),
        *reads("text", "image", "text"),
        *reads("answer", "image", "text"),
        Edge(dst="answer", src="answer", when="causal"),
    )
    return Recipe(
        name="nano_vlm",
        paper="crossroads nano backbone; layout of PaliGemma, arXiv 2407.07726",
        stage=Stage(
            name="language",
            streams=streams,
            edges=edges,
            towers=(Tower(name="language", spec=nano.LANGUAGE_TOWER),),
            schedule=(Decode(stream="answer", max_tokens=nano.ANSWER.max_tokens),),
            sequence=("image", "text", "answer"),
        ),
        phases=(Phase(name="pretrain", trains=("language",), losses=("answer",)),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="none"),
        departs=("As many key-value heads as query heads, so that one action expert fits both backbones.",),
    )
