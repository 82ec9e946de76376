"""The sizes of Genie's latent actions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.motion import MotionClip
from crossroads.codecs.motion_transformer import MotionTransformer, dreamdojo_blocks
from crossroads.codecs.pixels import Patches
from crossroads.codecs.text import TextTokens
from crossroads.recipes import lapa_sizes, nano
from crossroads.towers.gemma import Gemma
from crossroads.towers.llama import Llama
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class GenieLamSize:
    """What differs between sizes. ``causal``: picture and words are read from left to right."""

    image: Patches
    text: TextTokens
    motion: MotionClip
    action: ActionTokens
    language: Gemma | Llama
    expert: Wan
    backbone: str | None
    causal: bool
    departs: tuple[str, ...]


DEPARTS = (
    "The video tokeniser and the dynamics model are no part of a policy and not in the recipe; the dynamics model is "
    "there as 1X's open STMaskGIT (codecs.masked_clip, reproduced by crossroads parity).",
    "How Genie gathers a frame's tokens into one latent action is not published: here in a learned token in front of "
    "each frame, as in DreamDojo; positions are sinusoids over tokens and rotations over frames.",
    "A policy of picture and words writes the codes; published ones see pictures alone, in simulated games.",
    "Actions are read from the states at the codes by a small transformer that is trained; published maps each code to "
    "the actions that were seen with it.",
    "The commitment counts a quarter; Genie's is not published.",
)

NANO = GenieLamSize(
    image=nano.IMAGE,
    text=nano.PROMPT,
    motion=MotionClip(
        cameras=nano.CAMERAS,
        future_s=nano.FUTURE_S,
        model=MotionTransformer(
            image_hw=nano.IMAGE_HW,
            patch=8,
            encoder=dreamdojo_blocks(64, 4, 2, causal=True),
            decoder=dreamdojo_blocks(64, 4, 2, causal=True),
            code_size=16,
            codebook=8,
        ),
    ),
    action=nano.ACTION,
    language=nano.LANGUAGE_TOWER,
    expert=replace(nano.EXPERT, depth=2, context_width=nano.LANGUAGE_TOWER.width),
    backbone="nano_vlm",
    causal=False,
    departs=(*DEPARTS, "At nano size 5 frames of 64 px, 0.3 s apart; published 16 of them, 0.1 s apart."),
)

PUBLISHED = GenieLamSize(
    image=lapa_sizes.PUBLISHED.image,
    text=lapa_sizes.PUBLISHED.text,
    motion=MotionClip(
        cameras=("image",),
        future_s=tuple(step / 10 for step in range(1, 16)),
        model=MotionTransformer(
            image_hw=(256, 256),
            patch=16,
            encoder=dreamdojo_blocks(1024, 16, 20, causal=True),
            decoder=dreamdojo_blocks(1024, 16, 20, causal=True),
            codebook=8,
        ),
    ),
    action=ActionTokens(num_actions=15, action_size=7, control_hz=10.0),
    language=lapa_sizes.PUBLISHED.language,
    expert=replace(nano.EXPERT, width=512, mlp=2048, depth=4, heads=8, head_dim=64, rotary=(64,), context_width=4096),
    backbone=None,
    causal=True,
    departs=(
        *DEPARTS,
        "The language model, its picture and its words are LAPA's; weights start at random.",
        "Frames are squares of 256 px, as the policy's picture is; published has 160 x 90.",
    ),
)
