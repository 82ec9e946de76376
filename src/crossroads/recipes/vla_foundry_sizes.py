"""The sizes of VLA Foundry's policy: nano, and its preset on PaliGemma (arXiv 2604.19728; ``config_presets``, MIT)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.handed import TimedStates
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.noise import StepLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano, pi0
from crossroads.solvers import Strides
from crossroads.towers.foundry import Foundry
from crossroads.towers.gemma import Gemma


@dataclass(frozen=True, kw_only=True)
class FoundrySize:
    """What differs between sizes.

    ``probe``: the token that is appended to the prompt; ``told``: its states as the head reads them, told the level;
    ``causal``: the head reads its sequence in order only. ``state`` None: the head is shown none.
    """

    image: Patches
    text: TextTokens
    language: Gemma
    probe: LearnedTokens
    told: TimedStates
    state: StateToken | None
    action: ActionTokens
    head: Foundry
    causal: bool
    action_flow: Flow
    solver: Strides
    backbone: str | None
    departs: tuple[str, ...]


BOTH = (
    "A chunk begins now: published shows one or two actions before it, clean, in the same sequence.",
    "One draw of noise for each pass of the vision-language model; published draws eight. No noise on what enters the "
    "head (published 0.05). Weights are not averaged over training.",
    "Statistics are of the whole chunk; published normalises each of its steps by its own.",
)
NANO = FoundrySize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    language=nano.LANGUAGE_TOWER,
    probe=LearnedTokens(num=1),
    told=TimedStates(sources=("probe",), num=1, state_width=nano.LANGUAGE_TOWER.width, taps=(4,), num_steps=100),
    state=nano.STATE,
    action=nano.ACTION,
    head=Foundry(width=128, mlp=512, depth=nano.DEPTH, heads=4),
    causal=False,
    action_flow=nano.ACTION_FLOW,
    solver=Strides(steps=nano.DENOISING_STEPS, num_steps=100),
    backbone="nano_vlm",
    departs=(
        *BOTH,
        "At nano size the vision-language model is nano-vlm, of which the last two layers are read; one camera, 12 "
        "actions and 5 denoising steps, 100 steps that are told apart, the noise levels of all nano arms.",
        "At nano size states on the way to actions are not cut to bounds.",
        "At nano size the state of the robot is shown to the head as one token; the published preset shows none.",
    ),
)

VOCABULARY = 257216
"""Rows of PaliGemma's table in transformers; the probe's row comes behind them (``resize_token_embeddings``)."""
DEPTH = 18
PUBLISHED = FoundrySize(
    image=replace(pi0.PUBLISHED.image, cameras=("scene_right_0", "scene_left_0", "wrist_left", "wrist_right")),
    text=replace(pi0.PUBLISHED.text, vocabulary=replace(pi0.PUBLISHED.text.vocabulary, size=VOCABULARY + 1)),
    language=pi0.PUBLISHED.language,
    probe=LearnedTokens(num=1),
    told=TimedStates(sources=("probe",), num=1, state_width=2048, taps=(DEPTH - 4, DEPTH - 3, DEPTH - 2)),
    state=StateToken(num_state=20, normaliser="quantile"),
    action=ActionTokens(num_actions=14, action_size=20, control_hz=10.0, normaliser="quantile"),
    head=Foundry(width=512, mlp=1536, depth=12, heads=8, norm_in=True),  # transformer_100m.yaml
    causal=False,
    action_flow=Flow(levels=StepLevels(), clip=(-3.0, 3.0)),
    solver=Strides(steps=10, clip=(-3.0, 3.0)),
    backbone=None,
    departs=(
        *BOTH,
        "The preset vla_diffusion_paligemma2.yaml, of which no weights were released; the released policies stand on "
        "Qwen3-VL-2B and on a model of the authors' own. Weights start at random until a checkpoint of the preset is "
        "imported.",
        "The robot's state is shown to the head as one token; the preset of LBM shows it for each step of the past.",
        "The data must give 20 numbers for two arms (place, six of rotation, gripper), relative to the hand now.",
        "Pictures are of now; published shows those of one step before as well. They are not augmented.",
        "An instruction of more than 48 tokens is refused, not cut off.",
    ),
)
