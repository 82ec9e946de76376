"""LAPA: video without actions is labelled with latent ones, a model learns to write them, then the robot's own.

Ye et al. 2024, arXiv 2410.11758 (MIT). Phase ``quantiser`` learns what leads from a frame to a later one, in a few
words of a tiny vocabulary; phase ``latent`` teaches a language model to write them from picture and instruction; phase
``action`` teaches it to write a robot's actions instead, on the few recordings that have any. Each starts from the one
before: ``crossroads train lapa --phase latent --start RUN``.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.action_bins import ActionBins
from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.lapa_quantiser import LapaQuantiser
from crossroads.codecs.motion import MotionClip, MotionCodes
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.text import NUM_BYTES, NUM_SPECIAL, TextTokens
from crossroads.objectives import Regress, TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Decode
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.gemma import Gemma
from crossroads.towers.given import Given
from crossroads.towers.llama import Llama


@dataclass(frozen=True, kw_only=True)
class LapaSize:
    """What differs between sizes. ``causal``: picture and words are read from left to right, as all the rest is."""

    image: Patches
    text: TextTokens
    motion: MotionClip
    action: DiscreteActions
    next_token: TokenCE
    language: Gemma | Llama
    backbone: str | None
    causal: bool
    departs: tuple[str, ...]


DEPARTS = (
    "The robot's actions are written with 256 pieces of the vocabulary, as OpenVLA's are; published gives them a table "
    "and a head of their own, as the latent actions have (here too).",
    "Bins of actions are evenly wide between quantiles; published ones hold equally many actions each, and the gripper "
    "is 0 or 1.",
    "The picture enters through a vision transformer that is trained; published as 256 tokens of a frozen VQGAN.",
    "Entries of the codebook that are hardly used become exact copies of the others; published adds noise of 1e-12.",
    "The mark that starts the latent actions is an entry of their own table; published writes <delta> around them.",
)

NANO = LapaSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    motion=MotionClip(
        cameras=nano.CAMERAS,
        future_s=(0.6,),
        model=LapaQuantiser(
            image_hw=nano.IMAGE_HW, patch=8, width=64, code_size=16, depth=2, time_depth=2, heads=4, head_dim=16
        ),
    ),
    action=DiscreteActions(
        num_actions=6,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        tokeniser=ActionBins(),
        vocabulary=nano.VOCABULARY,
        last=NUM_SPECIAL + NUM_BYTES - 1,
    ),
    next_token=nano.NEXT_TOKEN,
    language=nano.LANGUAGE_TOWER,
    backbone="nano_vlm",
    causal=False,
    departs=(
        *DEPARTS,
        "At nano size the language model is nano-vlm, in which picture and words read each other; 6 actions of 4 "
        "numbers are written at once, published one of 7; the later frame is 0.6 s ahead, where the chunk ends.",
    ),
)

WORDS = PretrainedVocabulary(source="LargeWorldModel/LWM-Text-Chat-1M", size=32000, start=1, end=2)
PUBLISHED = LapaSize(  # Open X-Embodiment: the later frame is 30 frames ahead in SSv2, about as long in the others
    image=Patches(
        cameras=("image",), image_hw=(256, 256), patch=16, depth=24, vision_width=1024, vision_mlp=4096, heads=16
    ),
    text=TextTokens(vocabulary=WORDS, max_tokens=128, tied=False),
    motion=MotionClip(cameras=("image",), future_s=(1.0,), model=LapaQuantiser()),
    action=DiscreteActions(
        num_actions=1,
        action_size=7,
        control_hz=5.0,
        tokeniser=ActionBins(),
        vocabulary=WORDS,
        last=WORDS.size - 1,
    ),
    next_token=TokenCE(start_token=1, end_token=WORDS.end),
    language=Llama(width=4096, mlp=11008, depth=32, heads=32, kv_heads=32, head_dim=128),
    backbone=None,
    causal=True,
    departs=(*DEPARTS, "Weights start at random; published ones start from LWM-Chat-1M."),
)


def lapa(size: LapaSize = NANO) -> Recipe:
    """LAPA at one of its sizes."""
    codes = MotionCodes(clip=size.motion)
    width = size.motion.size
    return Recipe(
        name="lapa",
        paper="Ye et al. 2024, arXiv 2410.11758",
        stage=Stage(
            name="policy",
            streams=(
                Stream(
                    name="motion",
                    carries="video",
                    codec=size.motion,
                    tower="motion",
                    views=(NOISED,),
                    objective=Regress(error="squared", drawn=True),
                ),
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(
                    name="latent",
                    carries="plan",
                    codec=codes,
                    tower="language",
                    views=(NOISED,),
                    objective=TokenCE(start_token=codes.start, end_token=codes.start + 1),
                    labelled_by="motion",
                ),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="language",
                    views=(NOISED,),
                    objective=size.next_token,
                    shares="text",
                ),
            ),
            edges=(
                *context_edges(causal=size.causal),
                *(edge for name in ("latent", "action") for edge in reads(name, "image", "text")),
                *(Edge(dst=name, src=name, when="causal") for name in ("latent", "action")),
            ),
            towers=(
                Tower(name="motion", spec=Given(width=width)),
                Tower(name="language", spec=size.language, backbone=size.backbone),
            ),
            schedule=(Decode(stream="action"),),
            sequence=("image", "text", "latent", "action"),
        ),
        phases=(
            Phase(name="quantiser", trains=("motion",), losses=("motion",)),
            Phase(name="latent", trains=("language",), losses=("latent",)),
            Phase(name="action", trains=("language",), losses=("action",)),
        ),
        axes=Axes(paradigm="representation_only", architecture="monolithic", integration="latent"),
        because=("Latent actions are what the model is pretrained to write; when it acts it writes the robot's own.",),
        departs=size.departs,
    )


def context_edges(*, causal: bool) -> tuple[Edge, ...]:
    """Picture and words that read each other, or each token what stands before it."""
    if not causal:
        return (*reads("image", "image", "text"), *reads("text", "image", "text"))
    return (*(Edge(dst=name, src=name, when="causal") for name in ("image", "text")), *reads("text", "image"))
