"""pi0-FAST: a vision-language model that writes action chunks as it writes words, token by token.

Pertsch et al. 2025, arXiv 2501.09747; openpi and LeRobot (Apache-2.0). Image and prompt, which holds the state in
words, read each other; the FAST tokens of a chunk read both and, one by one, themselves. No expert, no noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.fast import Fast
from crossroads.codecs.pixels import Patches
from crossroads.codecs.prompt import PromptTokens
from crossroads.codecs.text import NUM_BYTES, NUM_SPECIAL
from crossroads.objectives import TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.schedule import Decode
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.gemma import Gemma


@dataclass(frozen=True, kw_only=True)
class Pi0FastSize:
    """What differs between sizes of pi0-FAST. ``backbone``: shipped weights that the language tower starts from."""

    image: Patches
    text: PromptTokens
    action: DiscreteActions
    next_token: TokenCE
    language: Gemma
    backbone: str | None
    departs: tuple[str, ...]


DEPARTS = (
    "The first token is predicted from a start mark of its own, which opens the causal part, in training (as LeRobot "
    "does) and in acting alike; openpi predicts it from the prompt's last token, and LeRobot's acting puts the mark "
    "into the part whose tokens all read each other.",
    "What is written is cut into tokens by pieces of the vocabulary, not by way of its text; as in openpi, a chunk "
    "that cannot be decoded is zero in unit scale.",
    "The loss is the mean over each sample's tokens, as in openpi; LeRobot takes the mean over those of all samples.",
)

NANO = Pi0FastSize(
    image=nano.IMAGE,
    text=PromptTokens(  # the words of the world have no digits, so commas part the numbers
        vocabulary=nano.VOCABULARY, max_tokens=80, num_state=nano.NUM_STATE, separator=", "
    ),
    action=DiscreteActions(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        tokeniser=Fast(size=192),
        vocabulary=nano.VOCABULARY,
        last=NUM_SPECIAL + NUM_BYTES - 1,  # bytes that spell no digit: 192 of them are the last ones
        normaliser="min_max",  # so that a chunk has at most 70 different coefficients, whatever the data
    ),
    next_token=nano.NEXT_TOKEN,
    language=nano.LANGUAGE_TOWER,
    backbone="nano_vlm",
    departs=(
        *DEPARTS,
        "At nano size tokens take over pieces that spell bytes, and are fitted on the labelled data, 192 of them; "
        "actions are scaled by their least and greatest, not by quantiles.",
        "At nano size one camera, and 12 actions of the robot's own size.",
        "At nano size there are as many key-value heads as query heads, not one.",
        "At nano size text embeddings enter unscaled, beside image tokens of the same scale; no words stand around the "
        "tokens, and the state's numbers are spelt in bytes with commas between them.",
    ),
)

VOCABULARY = replace(pi0_sizes.PUBLISHED.text.vocabulary, suffix=";\n")
PUBLISHED = Pi0FastSize(  # openpi's pi0_fast_droid
    image=replace(pi0_sizes.PUBLISHED.image, cameras=("base_0_rgb", "base_1_rgb", "wrist_0_rgb")),
    text=PromptTokens(vocabulary=VOCABULARY, max_tokens=180, scaled=True, num_state=8, lower=True),
    action=DiscreteActions(
        num_actions=10,
        action_size=8,
        control_hz=15.0,
        tokeniser=Fast(size=2048, source="physical-intelligence/fast"),
        vocabulary=VOCABULARY,
        last=VOCABULARY.size - 1 - 128,  # the very last 128 pieces are left alone
        before="Action: ",
        after="|",
        most=256,
    ),
    next_token=TokenCE(start_token=2, end_token=VOCABULARY.end),  # as the vocabulary has it
    language=pi0_sizes.PUBLISHED.language,
    backbone=None,
    departs=(
        *DEPARTS,
        "Weights start at random until PaliGemma's or pi0-FAST's are imported (crossroads.recipes.names).",
        "Every camera must be there, the second base camera, too; openpi shows a black image, which is read, where one "
        "is missing.",
        "Images are not augmented in training.",
        "A prompt of more than 180 tokens or a chunk of more than 256 is refused; openpi cuts both off at 250 in all.",
    ),
)


def pi0_fast(size: Pi0FastSize = NANO) -> Recipe:
    """pi0-FAST at one of its sizes."""
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
        name="pi0_fast",
        paper="Pertsch et al. 2025, arXiv 2501.09747",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                action,
            ),
            edges=(
                *reads("image", "image", "text"),
                *reads("text", "image", "text"),
                *reads("action", "image", "text"),
                Edge(dst="action", src="action", when="causal"),
            ),
            towers=(Tower(name="language", spec=size.language, backbone=size.backbone),),
            schedule=(Decode(stream="action"),),
            sequence=("image", "text", "action"),
        ),
        phases=(Phase(name="full", trains=("language",), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="tokens"),
        departs=size.departs,
    )
