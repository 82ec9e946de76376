"""The sizes of MolmoAct2: nano, and the model of 4B (Ai2 2026; LeRobot ``configuration_molmoact2.py``, Apache-2.0)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.fast import Fast
from crossroads.codecs.pixels import Patches
from crossroads.codecs.prompt import PromptTokens
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.noise import BetaLevels
from crossroads.objectives import Flow, TokenCE
from crossroads.recipes import baseline_ki, nano, pi0, pi05_sizes
from crossroads.towers.gemma import Gemma
from crossroads.towers.molmo import MolmoExpert
from crossroads.towers.qwen import Qwen


@dataclass(frozen=True, kw_only=True)
class MolmoSize:
    """What differs between sizes. ``fast``: actions as the language model writes them; ``insulated``: the expert's loss
    does not move the language model."""

    image: Patches
    text: PromptTokens
    fast: DiscreteActions
    action: ActionTokens
    language: Gemma
    expert: MolmoExpert
    next_token: TokenCE
    action_flow: Flow
    insulated: bool
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


DEPARTS = (
    "The first token of actions in words is predicted from a start mark of its own, not from the last words before it.",
    "One noise is drawn for a sample and step; published draws four, then eight, for one pass of the language model. "
    "There is no auxiliary loss on the size of its scores.",
    "Both losses and the cut gradient belong to the second of three stages; the first, words alone, is the phase "
    "'words', and the last, without the cut, is this recipe with `insulated` off.",
    "No depth tokens are written before actions ('Think').",
    "A state is told by the number of its bin among 256 even ones; published rounds to the nearest of 256 values.",
)
NANO = MolmoSize(
    image=nano.IMAGE,
    text=pi05_sizes.PROMPT,
    fast=baseline_ki.NANO.fast,
    action=replace(nano.ACTION, normaliser="quantile"),
    language=nano.LANGUAGE_TOWER,
    expert=MolmoExpert(
        width=128,
        mlp=344,
        depth=nano.DEPTH,
        heads=4,
        context_width=nano.LANGUAGE_TOWER.width,
        key_width=nano.HEADS * nano.HEAD_DIM,
        waves=64,
    ),
    next_token=nano.NEXT_TOKEN,
    action_flow=nano.ACTION_FLOW,
    insulated=True,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(
        *DEPARTS,
        "At nano size the language model is nano-vlm, which learned its words with pictures and prompt reading each "
        "other; here words read what came before them, as published.",
        "At nano size one camera, 12 actions and 5 denoising steps instead of 30 and 10, and the noise levels of all "
        "nano arms; numbers of the state are spelt in bytes with commas between them, and tokens of actions take over "
        "pieces that spell bytes.",
    ),
)

WORDS, ADDED = 152064, 4096
"""Pieces of the language model (``MolmoAct2TextConfig``), and room for those of states and actions behind them."""
VOCABULARY = PretrainedVocabulary(source="allenai/MolmoAct2", size=WORDS + ADDED, start=None, end=151645)
PUBLISHED = MolmoSize(
    image=replace(pi0.PUBLISHED.image, cameras=("image", "wrist_image")),
    text=PromptTokens(
        vocabulary=VOCABULARY,
        max_tokens=160,
        num_state=32,
        template="<|im_start|>user\nThe task is to {task}. The current state of the robot is <state_start>"
        "<state_{state}><state_end>. Given these, what action should the robot take to complete the task?<|im_end|>\n"
        "<|im_start|>assistant\n<action_output>",
        separator="><state_",
        lower=True,
    ),
    fast=DiscreteActions(
        num_actions=30,
        action_size=32,
        control_hz=30.0,
        tokeniser=Fast(size=2048, source="allenai/MolmoAct2-FAST-Tokenizer"),
        vocabulary=VOCABULARY,
        last=VOCABULARY.size - 1,
        before="<action_start>",
        after="<action_end>",
        most=256,
    ),
    action=ActionTokens(num_actions=30, action_size=32, control_hz=30.0, normaliser="quantile"),
    language=Qwen(
        width=2560,
        mlp=9728,
        depth=36,
        heads=32,
        kv_heads=8,
        head_dim=128,
        sections=(64, 0, 0),
        normed=True,
    ),
    expert=MolmoExpert(width=1024, mlp=2816, depth=36, heads=16, context_width=2560, key_width=1024),
    next_token=TokenCE(start_token=151644, end_token=151645),
    action_flow=Flow(levels=BetaLevels(alpha=1.5, beta=1.0, scale=0.999, offset=0.0)),
    insulated=True,
    denoising_steps=10,
    backbone=None,
    departs=(
        *DEPARTS,
        "Pictures enter through one SigLIP tower at 224 pixels and one linear map; published joins the states of two "
        "of its layers, pools squares of patches by attention, and cuts large pictures into crops. So the release is "
        "not imported as a whole; the language model and the expert reproduce their recording from its names.",
        "Weights start at random. Tokens of actions stand at the end of the vocabulary, the last one first.",
        "Prompts name no setup and no way of control. Actions and states arrive padded to 32 numbers, which the loss "
        "counts; published leaves padding out.",
        "Every camera must be there; images are not augmented in training.",
    ),
)
