"""pi0: a vision-language model and a flow-matching action expert in one softmax per layer.

Black et al. 2024, arXiv 2410.24164; openpi (Apache-2.0). Image and words read each other; the state reads them; the
actions read everything and each other; nothing before reads anything after, so the prefix is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.pixels import Patches
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
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.gemma import Gemma
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class Pi0Size:
    """What differs between sizes of pi0. ``backbone``: shipped weights that the language tower starts from."""

    image: Patches
    text: TextTokens
    state: StateToken
    action: ActionTokens
    language: Gemma
    expert: Gemma | Wan
    action_flow: Flow
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


NANO = Pi0Size(
    image=nano.IMAGE,
    text=nano.PROMPT,
    state=nano.STATE,
    action=nano.ACTION,
    language=nano.LANGUAGE_TOWER,
    expert=nano.WIDE_EXPERT,
    action_flow=nano.ACTION_FLOW,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(
        "At nano size the expert is of the kind that all arms share (Wan block, told the level by modulation, as many "
        "trained weights), not a narrow Gemma told the level inside the action codec.",
        "At nano size one camera, 12 actions and 5 denoising steps instead of three, 50 and 10.",
        "At nano size there are as many key-value heads as query heads, not one.",
        "At nano size actions and state have the robot's own size; the loss counts no padded dimensions.",
        "At nano size text embeddings enter unscaled, beside image tokens of the same scale.",
    ),
)

PUBLISHED = Pi0Size(
    image=Patches(  # SigLIP So400m/14
        cameras=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
        image_hw=(224, 224),
        patch=14,
        depth=27,
        vision_width=1152,
        vision_mlp=4304,
        heads=16,
    ),
    text=TextTokens(
        vocabulary=PretrainedVocabulary(source="google/paligemma-3b-pt-224", size=257152, start=2, end=1, suffix="\n"),
        max_tokens=48,
        scaled=True,
    ),
    state=StateToken(num_state=32),
    action=ActionTokens(num_actions=50, action_size=32, control_hz=50.0, level_in_codec=True),
    language=Gemma(width=2048, mlp=16384, depth=18, heads=8, kv_heads=1, head_dim=256),
    expert=Gemma(width=1024, mlp=4096, depth=18, heads=8, kv_heads=1, head_dim=256),
    action_flow=Flow(levels=BetaLevels(alpha=1.5, beta=1.0, scale=0.999, offset=0.001)),
    denoising_steps=10,
    backbone=None,
    departs=(
        "Weights start at random until PaliGemma's or pi0's are imported (crossroads.recipes.names).",
        "Actions and states arrive padded to 32 numbers; the data must pad them and must make joint actions relative "
        "to the first state, as openpi's data transforms do.",
        "Every camera must be there; openpi shows a black image that nobody reads where one is missing.",
        "Images are not augmented in training.",
        "An instruction of more than 48 tokens is refused, not cut off with a warning.",
    ),
)


def pi0(size: Pi0Size = NANO) -> Recipe:
    """pi0 at one of its sizes."""
    streams = (
        Stream(name="image", carries="image", codec=size.image, tower="language"),
        Stream(name="text", carries="text", codec=size.text, tower="language"),
        Stream(name="state", carries="state", codec=size.state, tower="expert"),
        Stream(
            name="action",
            carries="action",
            codec=size.action,
            tower="expert",
            views=(NOISED,),
            objective=size.action_flow,
        ),
    )
    edges = (
        *reads("image", "image", "text"),
        *reads("text", "image", "text"),
        *reads("state", "image", "text", "state"),
        *reads("action", "image", "text", "state", "action"),
    )
    return Recipe(
        name="pi0",
        paper="Black et al. 2024, arXiv 2410.24164",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
            sequence=("image", "text", "state", "action"),
        ),
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=("action",)),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="no_future", architecture="mixture_of_transformers", integration="tokens"),
        departs=size.departs,
    )
