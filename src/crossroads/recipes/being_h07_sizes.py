"""Being-H0.7's sizes: a vision-language model, an expert, and the slots of a plan between them."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.knowledge import EncoderStates, Orientations
from crossroads.codecs.pixels import Patches, ShuffledPatches
from crossroads.codecs.plan_slots import PlanSlots
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.resampler import Resampler
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.noise import BetaLevels
from crossroads.objectives import Flow
from crossroads.recipes import nano
from crossroads.towers.gemma import Gemma
from crossroads.towers.llama import Llama
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class BeingH07Size:
    """What differs between sizes; ``aligned``: how many of the last layers are brought together."""

    image: Patches
    text: TextTokens
    state: StateToken
    plan: PlanSlots
    action: ActionTokens
    language: Gemma | Llama
    expert: Wan | Llama
    action_flow: Flow
    aligned: int
    denoising_steps: int
    backbone: str | None
    departs: tuple[str, ...]


DEPARTS = (
    "The two terms against collapse (of norms and of the spectrum of slots, 1e-4 each) are not there, as in published "
    "post-training.",
    "The picture of now alone is seen, through the language model's own vision transformer; published sees five, by "
    "V-JEPA 2.1.",
    "Both branches have noise of their own, at one level.",
)
NANO = BeingH07Size(
    image=nano.IMAGE,
    text=nano.PROMPT,
    state=nano.STATE,
    plan=PlanSlots(
        cameras=nano.CAMERAS,
        image_hw=nano.IMAGE_HW,
        future_s=nano.FUTURE_S,
        told_by=Orientations(cell=8),
        resampler=Resampler(num=8, depth=1, heads=4, head_dim=32),
    ),
    action=nano.ACTION,
    language=nano.LANGUAGE_TOWER,
    expert=nano.WIDE_EXPERT,
    action_flow=nano.ACTION_FLOW,
    aligned=3,
    denoising_steps=nano.DENOISING_STEPS,
    backbone="nano_vlm",
    departs=(
        *DEPARTS,
        "At nano size the towers are those of all arms (Gemma and a Wan block), there are 8 slots, half of the layers "
        "are aligned, and the future is told by histograms of oriented gradients of four frames.",
        "At nano size actions and state have the robot's own size; published has places for 200 numbers of any robot.",
    ),
)

PUBLISHED = BeingH07Size(  # sizes of InternVL3.5-2B and Qwen3-0.6B, LIBERO's rate
    image=ShuffledPatches(
        cameras=("agentview", "wrist"),
        image_hw=(448, 448),
        patch=14,
        depth=24,
        vision_width=1024,
        vision_mlp=4096,
        heads=16,
        shuffle=2,
    ),
    text=TextTokens(
        vocabulary=PretrainedVocabulary(source="OpenGVLab/InternVL3_5-2B", size=151936, start=None, end=151645),
        max_tokens=64,
    ),
    state=StateToken(num_state=200, hidden=(1024,), activation="relu"),
    plan=PlanSlots(
        cameras=("agentview", "wrist"),
        image_hw=(448, 448),
        future_s=tuple(round(0.05 * step, 2) for step in range(1, 21)),
        told_by=EncoderStates(source="facebook/dinov2-base", size=768),
        resampler=Resampler(num=16, depth=3, heads=8, head_dim=64),
    ),
    action=ActionTokens(num_actions=20, action_size=200, control_hz=20.0, level_in_codec=True, timesteps=True),
    language=Llama(width=2048, mlp=6144, depth=28, heads=16, kv_heads=8, head_dim=128),
    expert=Llama(width=1024, mlp=3072, depth=28, heads=16, kv_heads=8, head_dim=128),
    action_flow=Flow(levels=BetaLevels(alpha=1.5, beta=1.0, scale=0.999, offset=0.001)),
    aligned=9,
    denoising_steps=4,
    backbone=None,
    departs=(
        *DEPARTS,
        "The towers have no norms of queries and keys, as Qwen3 has; their weights start at random. The sizes of the "
        "expert and of the resampler, the levels and the steps are not published: they are ours.",
        "The future is told by DINOv2 at 224 px, not V-JEPA 2.1 at 256.",
        "Actions and states arrive padded to 200 numbers, and the loss counts the padding.",
    ),
)
