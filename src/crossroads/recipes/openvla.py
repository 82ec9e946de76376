"""OpenVLA: a vision-language model that writes an action as it writes words, each number as one of 256 bins.

Kim et al. 2024, arXiv 2406.09246 (MIT); RT-2, arXiv 2307.15818. Two vision transformers and a Llama, whose attention is
causal from the first picture token on; the bins take over the pieces of its vocabulary that are used least.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_bins import ActionBins
from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.fused_pixels import FusedPatches
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.text import NUM_BYTES, NUM_SPECIAL, TextTokens
from crossroads.objectives import TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.recipes import openvla_oft as oft_sizes
from crossroads.schedule import Decode
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.gemma import Gemma
from crossroads.towers.llama import Llama


@dataclass(frozen=True, kw_only=True)
class OpenVlaSize:
    """What differs between sizes. ``causal``: pictures and words are read token by token, as Llama reads; else they
    read each other. ``start``: a token of its own before the pictures. ``backbone``: shipped weights."""

    image: Patches | FusedPatches
    text: TextTokens
    action: DiscreteActions
    next_token: TokenCE
    language: Gemma | Llama
    causal: bool
    start: bool
    backbone: str | None
    departs: tuple[str, ...]


DEPARTS = (
    "The loss is the mean over each sample's tokens; published takes it over those of all samples.",
    "Every action dimension is normalised by its quantiles; published leaves the gripper's as it is.",
)

NANO = OpenVlaSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    action=DiscreteActions(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        tokeniser=ActionBins(size=192),
        vocabulary=nano.VOCABULARY,
        last=NUM_SPECIAL + NUM_BYTES - 1,
    ),
    next_token=nano.NEXT_TOKEN,
    language=nano.LANGUAGE_TOWER,
    causal=False,
    start=False,
    backbone="nano_vlm",
    departs=(
        *DEPARTS,
        "At nano size the language model is nano-vlm, of Gemma's kind, with one vision transformer of its own; "
        "pictures and words read each other, as it has learned.",
        "At nano size one camera at 64 px, a bare instruction without the published question around it.",
        "At nano size 12 actions are written in a row, not one, and 192 bins take over pieces that spell bytes.",
    ),
)

PUBLISHED = OpenVlaSize(
    image=replace(oft_sizes.PUBLISHED.image, cameras=("base_0_rgb",)),
    text=oft_sizes.PUBLISHED.text,
    action=DiscreteActions(
        num_actions=1,
        action_size=7,
        control_hz=5.0,
        tokeniser=ActionBins(size=256),
        vocabulary=oft_sizes.PUBLISHED.text.vocabulary,
        last=31999,  # the last piece of Llama's 32,000; the table is padded to 32,064
    ),
    next_token=TokenCE(start_token=29871, end_token=2),  # the empty piece that published puts behind the prompt
    language=oft_sizes.PUBLISHED.language,
    causal=True,
    start=True,
    backbone=None,
    departs=(
        *DEPARTS,
        "Weights start at random until OpenVLA's are imported; the start mark before the pictures is a weight of its "
        "own, at first a row of the table of words.",
        "One camera and one robot's bins; no random crops in training. An instruction keeps its capital letters.",
    ),
)


def openvla(size: OpenVlaSize = NANO) -> Recipe:
    """OpenVLA at one of its sizes."""
    seen = ("start", "image", "text") if size.start else ("image", "text")
    start = (Stream(name="start", carries="plan", codec=LearnedTokens(num=1), tower="language"),) if size.start else ()
    action = Stream(
        name="action",
        carries="action",
        codec=size.action,
        tower="language",
        views=(NOISED,),
        objective=size.next_token,
        shares="text",
    )
    return Recipe(
        name="openvla",
        paper="Kim et al. 2024, arXiv 2406.09246",
        stage=Stage(
            name="policy",
            streams=(
                *start,
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                action,
            ),
            edges=(
                *(causal_edges(seen) if size.causal else tuple(e for group in seen for e in reads(group, *seen))),
                *reads("action", *seen),
                Edge(dst="action", src="action", when="causal"),
            ),
            towers=(Tower(name="language", spec=size.language, backbone=size.backbone),),
            schedule=(Decode(stream="action"),),
            sequence=(*seen, "action"),
        ),
        phases=(Phase(name="full", trains=("language",), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="tokens"),
        departs=size.departs,
    )


def causal_edges(groups: tuple[str, ...]) -> tuple[Edge, ...]:
    """Each group reads those before it, and itself token by token."""
    return tuple(
        edge
        for index, group in enumerate(groups)
        for edge in (*reads(group, *groups[:index]), Edge(dst=group, src=group, when="causal"))
    )
