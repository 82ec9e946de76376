"""The sizes of VLA-JEPA."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens, GrootEnds
from crossroads.codecs.frame_features import FrameFeatures
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.noise import BetaLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.towers.gemma import Gemma
from crossroads.towers.groot import GrootN1Head
from crossroads.towers.jepa import JepaPredictor
from crossroads.towers.llama import Llama

FEATURES_WEIGHT = 0.1  # Sun et al. 2026: loss_scale of the published configuration


@dataclass(frozen=True, kw_only=True)
class VlaJepaSize:
    """What differs between sizes. ``per_step``: latent actions in front of each step; ``embodied``: tokens that the
    head reads; ``future``: learned tokens of the head; ``causal``: the prompt is read from left to right."""

    image: Patches
    text: TextTokens
    per_step: int
    embodied: int
    video: FrameFeatures
    predictor: JepaPredictor
    state: StateToken
    future: LearnedTokens
    action: ActionTokens
    action_flow: Flow
    head: GrootN1Head
    language: Gemma | Llama
    denoising_steps: int
    backbone: str | None
    causal: bool
    departs: tuple[str, ...]


DEPARTS = (
    "Each frame is encoded on its own, shown twice, as in V-JEPA 2-AC; published encodes 8 frames together, so that "
    "what is shown to the predictor knows the future already (LeRobot issue 4153), and compares features as they are.",
    "One camera is predicted; published joins the features of two.",
    "One draw of noise for each sample and step; published draws 8 times.",
    "Learned tokens are vectors of their own behind the prompt; published adds words to the vocabulary.",
)

NANO = VlaJepaSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    per_step=2,
    embodied=8,
    video=FrameFeatures(cameras=nano.CAMERAS, image_hw=nano.IMAGE_HW, patch=16, future_s=nano.FUTURE_S, size=3 * 16**2),
    predictor=JepaPredictor(
        width=96, heads=4, mlp=384, depth=2, grid_hw=(4, 4), context_width=nano.LANGUAGE_TOWER.width
    ),
    state=replace(nano.STATE, hidden=(128,), activation="relu"),
    future=LearnedTokens(num=4),
    action=replace(nano.ACTION, hidden_out=(128,), activation="relu", head=GrootEnds(num_places=16, widened=128)),
    action_flow=nano.ACTION_FLOW,
    head=GrootN1Head(
        heads=4, head_dim=32, mlp=512, depth=3, context_width=nano.LANGUAGE_TOWER.width, frequency_width=64
    ),
    language=nano.LANGUAGE_TOWER,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    causal=False,
    departs=(
        *DEPARTS,
        "At nano size features are the pixels of a patch, normed: there is no frozen encoder.",
        "At nano size the language model is nano-vlm, in which picture and words read each other; 2 latent actions a "
        "step, 8 tokens for the head, 12 actions, 5 denoising steps, the noise levels of all nano arms.",
    ),
)

PUBLISHED = VlaJepaSize(
    image=Patches(
        cameras=("image",), image_hw=(256, 256), patch=16, depth=24, vision_width=1024, vision_mlp=4096, heads=16
    ),
    text=TextTokens(
        vocabulary=PretrainedVocabulary(source="Qwen/Qwen3-VL-2B-Instruct", size=151936, start=None, end=151645),
        max_tokens=128,
    ),
    per_step=8,
    embodied=32,
    video=FrameFeatures(
        cameras=("image",),
        image_hw=(256, 256),
        patch=16,
        future_s=(0.5, 1.0, 1.5),
        size=1024,
        source="facebook/vjepa2-vitl-fpc64-256",
    ),
    predictor=JepaPredictor(width=1024, heads=8, mlp=4096, depth=12, grid_hw=(16, 16), context_width=2048),
    state=StateToken(num_state=8, hidden=(1024,), activation="relu"),
    future=LearnedTokens(num=32),
    action=ActionTokens(
        num_actions=7,
        action_size=7,
        control_hz=5.0,
        hidden_out=(1024,),
        activation="relu",
        head=GrootEnds(num_places=1024, widened=1024),
    ),
    action_flow=Flow(levels=BetaLevels(scale=1.0, offset=0.0)),
    head=GrootN1Head(heads=12, head_dim=64, mlp=3072, depth=8, context_width=2048),
    language=Llama(width=2048, mlp=6144, depth=28, heads=16, kv_heads=8, head_dim=128),
    denoising_steps=4,
    backbone=None,
    causal=True,
    departs=(
        *DEPARTS,
        "The language model has Qwen3-VL-2B's sizes in Llama's layers: no norms of queries and keys, no deep stack of "
        "pictures; weights start at random.",
        "The step between two predicted frames is half a second; published counts it in frames of each data set.",
    ),
)
