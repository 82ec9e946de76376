"""VLM2VLA: actions as language. A vision-language model writes the next subtask and then the actions, in plain words.

Hancock et al. 2025, arXiv 2509.22195; no code is public. No token gets a new meaning and no weight is added, so that
what is learned of acting lies near what the model can already say.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.action_text import ActionText
from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.pixels import Patches
from crossroads.codecs.subtask import SubtaskTokens
from crossroads.codecs.text import TextTokens
from crossroads.objectives import TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.schedule import Decode
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.gemma import Gemma


@dataclass(frozen=True, kw_only=True)
class Vlm2VlaSize:
    """What differs between sizes. ``most_written``: tokens of a subtask when acting; ``backbone``: shipped weights."""

    image: Patches
    text: TextTokens
    subtask: SubtaskTokens
    most_written: int
    action: DiscreteActions
    next_token: TokenCE
    language: Gemma
    backbone: str | None
    departs: tuple[str, ...]


DEPARTS = (
    "Two of the paper's three texts: the subtask and the actions. The motion plan between them ('move 5 cm left'), "
    "which another model wrote for the paper's data, is not there.",
    "Every dimension of an action is written, the paper writes translations.",
    "A sample without a subtask of its own has the instruction for its subtask.",
    "No second model judges whether a subtask is done; the subtask is written anew at each call.",
    "All weights are trained; the paper trains low-rank changes of the linear layers (LoRA).",
)

NANO = Vlm2VlaSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    subtask=SubtaskTokens(vocabulary=nano.VOCABULARY, max_tokens=32),
    most_written=12,
    action=DiscreteActions(
        num_actions=6,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        tokeniser=ActionText(vocabulary=nano.VOCABULARY, per_unit=1000.0),
        vocabulary=nano.VOCABULARY,
        last=None,
        normaliser="none",
    ),
    next_token=nano.NEXT_TOKEN,
    language=nano.LANGUAGE_TOWER,
    backbone="nano_vlm",
    departs=(
        *DEPARTS,
        "At nano size integers are millimetres and thousandths, six actions long, and spelt in bytes.",
    ),
)

PUBLISHED = Vlm2VlaSize(
    image=pi0_sizes.PUBLISHED.image,
    text=pi0_sizes.PUBLISHED.text,
    subtask=SubtaskTokens(vocabulary=pi0_sizes.PUBLISHED.text.vocabulary, max_tokens=64, scaled=True),
    most_written=64,
    action=DiscreteActions(
        num_actions=5,
        action_size=7,
        control_hz=5.0,
        tokeniser=ActionText(vocabulary=pi0_sizes.PUBLISHED.text.vocabulary),
        vocabulary=pi0_sizes.PUBLISHED.text.vocabulary,
        last=None,
        normaliser="none",
    ),
    next_token=TokenCE(start_token=2, end_token=1),
    language=pi0_sizes.PUBLISHED.language,
    backbone=None,
    departs=(
        *DEPARTS,
        "The language model is PaliGemma's (Gemma 2B with SigLIP), not Gemma 3 12B; random until imported.",
        "Angles are written in hundredths of a radian, as lengths are in centimetres.",
    ),
)


def vlm2vla(size: Vlm2VlaSize = NANO) -> Recipe:
    """VLM2VLA at one of its sizes."""
    written = {"carries": "text", "tower": "language", "views": (NOISED,), "objective": size.next_token}
    return Recipe(
        name="vlm2vla",
        paper="Hancock et al. 2025, arXiv 2509.22195",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(name="subtask", codec=size.subtask, shares="text", **written),
                Stream(name="action", codec=size.action, shares="text", **{**written, "carries": "action"}),
            ),
            edges=(
                *reads("image", "image", "text"),
                *reads("text", "image", "text"),
                *reads("subtask", "image", "text"),
                Edge(dst="subtask", src="subtask", when="causal"),
                *reads("action", "image", "text", "subtask"),
                Edge(dst="action", src="action", when="causal"),
            ),
            towers=(Tower(name="language", spec=size.language, backbone=size.backbone),),
            schedule=(Decode(stream="subtask", max_tokens=size.most_written), Decode(stream="action")),
            sequence=("image", "text", "subtask", "action"),
        ),
        phases=(Phase(name="full", trains=("language",), losses=("subtask", "action")),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="tokens"),
        departs=size.departs,
    )
