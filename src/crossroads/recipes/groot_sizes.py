"""The sizes of GR00T N1: nano, N1.5 and N1.7 as released (arXiv 2503.14734; the releases' configs)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens, GrootEnds
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.scene import EagleVision, QwenVision, SceneFeatures
from crossroads.codecs.state import EmbodiedState
from crossroads.codecs.text import TextTokens
from crossroads.noise import BetaLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.towers.gemma import Gemma
from crossroads.towers.groot import GrootN1Head
from crossroads.towers.plain import Adapter


@dataclass(frozen=True, kw_only=True)
class GrootSize:
    """What differs between sizes.

    ``image`` and ``text``: what the head reads of pictures and of words, through the tower ``language``; ``future``:
    learned tokens beside the actions; ``text_every``: of the head's layers every so many-th reads words and the others
    read pictures (0: each reads both). ``backbone``: shipped weights of ``language``.
    """

    image: Patches | SceneFeatures | TextFeatures
    text: TextTokens | SceneFeatures | TextFeatures
    language: Gemma | Adapter
    state: EmbodiedState
    future: LearnedTokens | None
    action: ActionTokens
    head: GrootN1Head
    text_every: int
    action_flow: Flow
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


BOTH_NANO = (
    "At nano size the head reads nano-vlm itself, which is trained with it; published is a trained adapter over the "
    "states of a frozen vision-language model.",
    "At nano size one camera at 64 px, 12 actions and 5 denoising steps, the noise levels of all nano arms, and one "
    "robot, so no bank of weights per robot.",
)
NANO_N15 = GrootSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    language=nano.LANGUAGE_TOWER,
    state=EmbodiedState(num_state=nano.NUM_STATE, hidden=(128,), activation="relu"),
    future=LearnedTokens(num=4),
    action=replace(nano.ACTION, hidden_out=(128,), activation="relu", head=GrootEnds(num_places=16, widened=128)),
    head=GrootN1Head(
        heads=4, head_dim=32, mlp=512, depth=3, context_width=nano.LANGUAGE_TOWER.width, frequency_width=64
    ),
    text_every=0,
    action_flow=nano.ACTION_FLOW,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(*BOTH_NANO, "At nano size 4 learned future tokens instead of 32."),
)
NANO_N17 = replace(NANO_N15, future=None, text_every=2, departs=BOTH_NANO)

NUM_BANKS = 32
N15_BANKS = {2: "so100", 3: "unitree_g1", 17: "oxe_droid", 24: "gr1", 26: "agibot_genie1", 31: "new_embodiment"}
"""Which weights are whose (LeRobot ``processor_groot.py``)."""


def banks(names: dict[int, str]) -> tuple[str, ...]:
    """Names of all banks; those that nobody has named go by their number."""
    return tuple(names.get(number, f"bank_{number}") for number in range(NUM_BANKS))


BOTH_PUBLISHED = (
    "Backbone states are those of the frozen model's own release; published fine-tuned its vision tower before.",
    "Tokens past the end of the prompt are not read; published adapters, and the head of N1.5, read their states.",
    "The prompt is the model's own chat template around pictures and instruction.",
    "No dropout (published 0.2 in the head and the adapter). Images are not augmented in training.",
    "Latent actions, neural trajectories and their losses of pretraining are not there.",
    "Actions and states arrive padded to the published number; the data must pad them, and state the control rate.",
    "The weights start at random until GR00T's are imported.",
)
N15 = GrootSize(
    image=SceneFeatures(
        model=EagleVision(),
        cameras=("ego_view",),
        image_hw=(224, 224),
        max_words=64,
        apart=True,
        part="image",
        direct=True,
    ),
    text=SceneFeatures(
        model=EagleVision(),
        cameras=("ego_view",),
        image_hw=(224, 224),
        max_words=64,
        apart=True,
        part="words",
        direct=True,
    ),
    language=Adapter(width=2048, mlp=8192, depth=4, heads=32),
    state=EmbodiedState(num_state=64, normaliser="min_max", hidden=(1024,), robots=banks(N15_BANKS), activation="relu"),
    future=LearnedTokens(num=32),
    action=ActionTokens(
        num_actions=16,
        action_size=32,
        control_hz=20.0,
        normaliser="min_max",
        hidden_out=(1024,),
        robots=banks(N15_BANKS),
        activation="relu",
        head=GrootEnds(num_places=1024, widened=1024),
    ),
    head=GrootN1Head(heads=32, head_dim=48, mlp=6144, depth=8, context_width=2048),
    text_every=0,
    action_flow=Flow(levels=BetaLevels(scale=1 / 0.999, offset=0.0)),
    denoising_steps=4,
    backbone=None,
    departs=(
        *BOTH_PUBLISHED,
        "The frozen Eagle 2.5 cannot be loaded (transformers has no class of it): this size is shown, costed, imported "
        "and held against recordings, and neither acts nor trains; N1.7 does.",
        "The future tokens are there, and learn from the actions alone: their loss on embeddings of the future (FLARE) "
        "is not in the released code either.",
    ),
)
N17 = replace(
    N15,
    image=replace(N15.image, model=QwenVision(source="nvidia/Cosmos-Reason2-2B"), image_hw=(256, 256), layers=16),
    text=replace(N15.text, model=QwenVision(source="nvidia/Cosmos-Reason2-2B"), image_hw=(256, 256), layers=16),
    state=replace(N15.state, num_state=132, normaliser="quantile", robots=banks({})),
    future=None,
    action=replace(N15.action, num_actions=40, action_size=132, normaliser="quantile", robots=banks({})),
    head=replace(N15.head, depth=16),
    text_every=2,
    action_flow=Flow(levels=BetaLevels()),
    departs=(
        *BOTH_PUBLISHED,
        "The state is always shown; published hides it in a fifth of the training samples.",
        "Actions are absolute where the data are; published makes those of most robots relative to the state.",
        "A chunk is not bent to the one before it, which published can do while it denoises.",
    ),
)
