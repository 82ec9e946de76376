"""The sizes of LAPA."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.action_bins import ActionBins
from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.lapa_quantiser import LapaQuantiser
from crossroads.codecs.motion import MotionClip
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.text import NUM_BYTES, NUM_SPECIAL, TextTokens
from crossroads.objectives import TokenCE
from crossroads.recipes import nano
from crossroads.towers.gemma import Gemma
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
