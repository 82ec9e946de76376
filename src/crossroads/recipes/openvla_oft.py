"""OpenVLA-OFT: a language model writes a whole chunk of actions in one pass, from blank tokens that read each other.

Kim et al. 2025, arXiv 2502.19645 (MIT); OpenVLA, arXiv 2406.09246. Two vision transformers and a Llama; its attention
is bidirectional over everything; the states at the blank tokens are regressed to normalised actions.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.fused_pixels import FusedPatches, VisionTower
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.slices import ActionSlices, BlankTokens
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.objectives import Regress
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import nano
from crossroads.schedule import Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.gemma import Gemma
from crossroads.towers.llama import Llama


@dataclass(frozen=True, kw_only=True)
class OpenVlaOftSize:
    """What differs between sizes. ``state`` None: the robot's state is not shown; ``backbone``: shipped weights."""

    image: Patches | FusedPatches
    text: TextTokens
    state: StateToken | None
    action: ActionSlices
    language: Gemma | Llama
    backbone: str | None
    departs: tuple[str, ...]


NANO = OpenVlaOftSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    state=StateToken(num_state=nano.NUM_STATE, hidden=(nano.LANGUAGE_TOWER.width,)),
    action=ActionSlices(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        hidden=128,
        normaliser="mean_std",
    ),
    language=nano.LANGUAGE_TOWER,
    backbone="nano_vlm",
    departs=(
        "At nano size the language model is nano-vlm, of Gemma's kind, with one vision transformer of its own.",
        "At nano size one camera at 64 px, a bare instruction without the published question around it, 12 actions of "
        "4 numbers, scaled as those of all nano arms.",
        "Everything is trained; published trains low-rank changes of the layers (LoRA, rank 32) beside the head.",
    ),
)

PUBLISHED = OpenVlaOftSize(  # LIBERO: two cameras and the state
    image=FusedPatches(
        cameras=("agentview", "wrist"),
        image_hw=(224, 224),
        patch=14,
        towers=(
            VisionTower(  # DINOv2-L with registers, all but its last layer
                width=1024,
                mlp=4096,
                depth=23,
                heads=16,
                class_token=True,
                registers=4,
                layer_scale=True,
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
            ),
            VisionTower(width=1152, mlp=4304, depth=26, heads=16),  # SigLIP So400m, all but its last layer
        ),
        hidden=4 * (1024 + 1152),
    ),
    text=TextTokens(
        vocabulary=PretrainedVocabulary(
            source="openvla/openvla-7b",
            size=32064,
            start=None,
            end=2,
            template="In: What action should the robot take to {task}?\nOut:",
        ),
        max_tokens=64,
    ),
    state=StateToken(num_state=8, normaliser="quantile", hidden=(4096,)),
    action=ActionSlices(num_actions=8, action_size=7, control_hz=20.0, hidden=4096),
    language=Llama(width=4096, mlp=11008, depth=32, heads=32, kv_heads=32, head_dim=128),
    backbone=None,
    departs=(
        "Weights start at random until OpenVLA-OFT's are imported, whose head and state network must be converted to "
        "safetensors first (names action_head.* and proprio_projector.*).",
        "Everything is trained; published trains low-rank changes of the layers (LoRA, rank 32) beside the head.",
        "The marks around the prompt and the actions are weights of their own, at first rows of the table of words.",
        "Every action dimension is normalised by its quantiles; published leaves the gripper's as it is.",
        "No random crops in training, and no centre crop when acting. An instruction keeps its capital letters.",
        "The form for two arms (FiLM in the vision transformers, 25 actions) and the diffusion head are not there.",
    ),
)


def openvla_oft(size: OpenVlaOftSize = NANO) -> Recipe:
    """OpenVLA-OFT at one of its sizes."""
    state = (Stream(name="state", carries="state", codec=size.state, tower="language"),) if size.state else ()
    sequence = ("start", "image", *(stream.name for stream in state), "text", "action", "end")
    return Recipe(
        name="openvla_oft",
        paper="Kim et al. 2025, arXiv 2502.19645",
        stage=Stage(
            name="policy",
            streams=(
                Stream(name="start", carries="plan", codec=LearnedTokens(num=1), tower="language"),
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                *state,
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                Stream(
                    name="action",
                    carries="action",
                    codec=size.action,
                    tower="language",
                    views=(NOISED,),
                    objective=Regress(),
                ),
                Stream(name="end", carries="plan", codec=BlankTokens(num=1, blank=1), tower="language"),
            ),
            edges=tuple(edge for group in sequence for edge in reads(group, *sequence)),
            towers=(Tower(name="language", spec=size.language, backbone=size.backbone),),
            schedule=(Predict(streams=("action",)),),
            sequence=sequence,
        ),
        phases=(Phase(name="full", trains=("language",), losses=("action",)),),
        axes=Axes(paradigm="no_future", architecture="monolithic", integration="tokens"),
        departs=size.departs,
    )
