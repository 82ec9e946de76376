"""SmolVLA: half of a small vision-language model, and a narrow expert that joins its softmax in every second layer.

Shukor et al. 2025, arXiv 2506.01844; LeRobot (Apache-2.0). Images and words read each other; the state is the last
token of the language model's sequence; actions read all of these, and in the joint layers the actions before them. In
the other layers they read the language model's keys and values of that layer through maps of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.pixels import Patches, ShuffledPatches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.noise import BetaLevels
from crossroads.objectives import Flow
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.gemma import Gemma
from crossroads.towers.llama import Llama, SmolExpert


@dataclass(frozen=True, kw_only=True)
class SmolVlaSize:
    """What differs between sizes. ``backbone``: shipped weights that the language tower starts from."""

    image: Patches
    text: TextTokens
    state: StateToken
    action: ActionTokens
    language: Gemma
    expert: SmolExpert
    action_flow: Flow
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


NANO = SmolVlaSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    state=nano.STATE,
    action=replace(nano.ACTION, level_in_codec=True),
    language=nano.LANGUAGE_TOWER,
    expert=SmolExpert(
        width=144, mlp=512, depth=nano.DEPTH, heads=nano.HEADS, kv_heads=nano.HEADS, head_dim=nano.HEAD_DIM
    ),
    action_flow=nano.ACTION_FLOW,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(
        "At nano size the language model is nano-vlm, of Gemma's kind, and all of its layers are there.",
        "At nano size one camera without pixel shuffle, 12 actions and 5 denoising steps instead of 50 and 10.",
        "At nano size actions and state have the robot's own size, and embeddings enter unscaled.",
        "In the phase 'head' the map of the state is frozen with the language model whose token it is; published "
        "trains it with the expert.",
    ),
)

PUBLISHED = SmolVlaSize(
    image=ShuffledPatches(  # SigLIP of SmolVLM2-500M: 1,024 patches become 64 tokens
        cameras=("camera1", "camera2", "camera3"),
        image_hw=(512, 512),
        patch=16,
        depth=12,
        vision_width=768,
        vision_mlp=3072,
        heads=12,
        shuffle=4,
    ),
    text=TextTokens(
        vocabulary=PretrainedVocabulary(
            source="HuggingFaceTB/SmolVLM2-500M-Video-Instruct", size=49280, start=None, end=49279, suffix="\n"
        ),
        max_tokens=48,
        scaled=True,
    ),
    state=StateToken(num_state=32),
    action=ActionTokens(num_actions=50, action_size=32, control_hz=30.0, level_in_codec=True),
    language=Llama(width=960, mlp=2560, depth=16, heads=15, kv_heads=5, head_dim=64, eps=1e-5),
    expert=SmolExpert(width=720, mlp=2048, depth=16, heads=15, kv_heads=5, head_dim=64, eps=1e-5),
    action_flow=Flow(levels=BetaLevels(alpha=1.5, beta=1.0, scale=0.999, offset=0.001)),
    denoising_steps=10,
    backbone=None,
    departs=(
        "Weights start at random until SmolVLA's are imported; published starts from SmolVLM2-500M.",
        "In the phase 'head' the map of the state is frozen with the language model whose token it is; published "
        "trains it with the expert.",
        "Actions and states arrive padded to 32 numbers; the loss counts the padding, as published does.",
        "Images arrive at 512 px; the data must pad and resize them. Every camera must be there.",
        "Patches have the places of their own row and column; SmolVLM2 in transformers 4.57 gives them those of the "
        "row and column before.",
        "An instruction of more than 48 tokens is refused, not cut off.",
    ),
)


def smolvla(size: SmolVlaSize = NANO) -> Recipe:
    """SmolVLA at one of its sizes."""
    prefix = ("image", "text", "state")
    joint = tuple(layer for layer in range(size.expert.depth) if not size.expert.maps_keys(layer))
    return Recipe(
        name="smolvla",
        paper="Shukor et al. 2025, arXiv 2506.01844",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(name="state", carries="state", codec=size.state, tower="language"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="expert",
                    views=(NOISED,),
                    objective=size.action_flow,
                ),
            ),
            edges=(
                *reads("image", "image", "text"),
                *reads("text", "image", "text"),
                *reads("state", *prefix),
                *reads("action", *prefix),
                Edge(dst="action", src="action", when="causal", layers=joint),
            ),
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            sequence=(*prefix, "action"),
        ),
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=("action",)),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="mixture_of_transformers", integration="tokens"),
        departs=size.departs,
    )
