"""The sizes of V-JEPA 2-AC."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.frame_features import FrameFeatures
from crossroads.codecs.held_actions import HeldActions
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.recipes import nano
from crossroads.towers.gemma import Gemma
from crossroads.towers.jepa import JepaPredictor
from crossroads.towers.llama import Llama


@dataclass(frozen=True, kw_only=True)
class Search:
    """How actions are searched: ``rounds`` of ``samples``, of which the ``best`` say where the next are drawn."""

    rounds: int
    samples: int
    best: int
    momentum: float = 0.15  # notebooks/utils/world_model_wrapper.py, mpc_args


@dataclass(frozen=True, kw_only=True)
class VJepa2AcSize:
    """What differs between sizes. ``search``: how actions are found; ``causal``: words are read from left to right."""

    image: Patches
    text: TextTokens
    video: FrameFeatures
    state: StateToken
    action: HeldActions
    predictor: JepaPredictor
    language: Gemma | Llama
    search: Search
    backbone: str | None
    causal: bool
    departs: tuple[str, ...]


DEPARTS = (
    "Where no goal image is given, the features of the window's last frame are told from picture and words by a "
    "language model that is trained to; published plans towards given images only.",
    "Predicted features are compared with the goal's as they are; published norms them once more.",
    "Teacher forcing alone; published adds the error after a roll-out of two steps.",
    "The state stands in front of the first step alone; published also shows the state that each step is to lead to.",
    "A step's action is the mean of the robot's actions in it, sent as often when acting; published is told the "
    "difference of two poses.",
    "Candidates are drawn in every dimension, in deviations of the data, and cut off at the robot's limits only when "
    "they are sent; published searches translation and gripper alone and cuts each draw off.",
)

NANO = VJepa2AcSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    video=FrameFeatures(cameras=nano.CAMERAS, image_hw=nano.IMAGE_HW, patch=16, future_s=(0.6, 1.2), size=3 * 16**2),
    state=nano.STATE,
    action=HeldActions(num_actions=nano.NUM_ACTIONS, steps=2, action_size=nano.ACTION_SIZE, control_hz=nano.CONTROL_HZ),
    predictor=JepaPredictor(width=96, heads=4, mlp=384, depth=2, grid_hw=(4, 4)),
    language=nano.LANGUAGE_TOWER,
    search=Search(rounds=2, samples=16, best=4),
    backbone="nano_vlm",
    causal=False,
    departs=(
        *DEPARTS,
        "At nano size features are the pixels of a patch, normed: there is no frozen encoder.",
        "At nano size two steps of 0.6 s, and 2 rounds of 16 candidates; published 7 steps of 0.25 s in training, and "
        "10 rounds of 400 candidates for two of them.",
    ),
)

PUBLISHED = VJepa2AcSize(
    image=Patches(
        cameras=("image",), image_hw=(256, 256), patch=16, depth=24, vision_width=1024, vision_mlp=4096, heads=16
    ),
    text=TextTokens(
        vocabulary=PretrainedVocabulary(source="Qwen/Qwen3-VL-2B-Instruct", size=151936, start=None, end=151645),
        max_tokens=128,
    ),
    video=FrameFeatures(
        cameras=("image",),
        image_hw=(256, 256),
        patch=16,
        future_s=(0.25, 0.5),
        size=1408,
        source="facebook/vjepa2-vitg-fpc64-256",
    ),
    state=StateToken(num_state=7),
    action=HeldActions(num_actions=2, steps=2, action_size=7, control_hz=4.0),
    predictor=JepaPredictor(width=1024, heads=16, mlp=4096, depth=24, grid_hw=(16, 16)),
    language=Llama(width=2048, mlp=6144, depth=28, heads=16, kv_heads=8, head_dim=128),
    search=Search(rounds=10, samples=400, best=10),
    backbone=None,
    causal=True,
    departs=(*DEPARTS, "Two steps in training, as in planning; published trains on 7."),
)
