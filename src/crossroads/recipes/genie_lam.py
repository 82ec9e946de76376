"""Latent actions as Genie learns them: a policy writes codes, and a small head says what the robot does for each.

Bruce et al. 2024, arXiv 2402.15391, sections 2.1 and 3.3. Phase ``latent_actions`` learns 8 codes for what leads from
frame to frame, of video alone; ``policy`` learns to write those of the frames to come; ``dictionary`` learns actions
from codes, of few recordings with actions (published: 200 of them fill a dictionary). Each starts from the one before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.motion import MotionClip, MotionCodes
from crossroads.codecs.motion_transformer import MotionTransformer, dreamdojo_blocks
from crossroads.codecs.pixels import Patches
from crossroads.codecs.text import TextTokens
from crossroads.objectives import Regress, TokenCE
from crossroads.recipe import Axes, Recipe
from crossroads.recipes import lapa as lapa_sizes
from crossroads.recipes import nano
from crossroads.recipes.lapa import context_edges
from crossroads.schedule import Decode, Predict
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.gemma import Gemma
from crossroads.towers.given import Given
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


def genie_lam(size: GenieLamSize = NANO) -> Recipe:
    """Genie's latent actions at one of their sizes."""
    codes = MotionCodes(clip=size.motion)
    learned = Regress(error="squared", weight=size.motion.weight)
    written = TokenCE(start_token=codes.start, end_token=codes.start + 1)
    motion = Stream(
        name="motion", carries="video", codec=size.motion, tower="motion", views=(NOISED,), objective=learned
    )
    latent = Stream(
        name="latent",
        carries="plan",
        codec=codes,
        tower="language",
        views=(NOISED,),
        objective=written,
        labelled_by="motion",
    )
    action = Stream(
        name="action", carries="action", codec=size.action, tower="expert", views=(NOISED,), objective=Regress()
    )
    return Recipe(
        name="genie_lam",
        paper="Bruce et al. 2024, arXiv 2402.15391",
        stage=Stage(
            name="policy",
            streams=(
                motion,
                Stream(name="image", carries="image", codec=size.image, tower="language"),
                Stream(name="text", carries="text", codec=size.text, tower="language"),
                latent,
                action,
            ),
            edges=(
                *context_edges(causal=size.causal),
                *reads("latent", "image", "text"),
                Edge(dst="latent", src="latent", when="causal"),
                *reads("action", "action"),
                *reads("action", "latent", via="cross"),
            ),
            towers=(
                Tower(name="motion", spec=Given(width=size.motion.size)),
                Tower(name="language", spec=size.language, backbone=size.backbone),
                Tower(name="expert", spec=size.expert),
            ),
            schedule=(Decode(stream="latent"), Predict(streams=("action",))),
            sequence=("image", "text", "latent"),
        ),
        phases=(
            Phase(name="latent_actions", trains=("motion",), losses=("motion",)),
            Phase(name="policy", trains=("language",), losses=("latent",)),
            Phase(name="dictionary", trains=("expert",), losses=("action",)),
        ),
        axes=Axes(paradigm="representation_only", architecture="hierarchical", integration="latent"),
        because=("What is written is a latent action, of which the robot's own are read.",),
        departs=size.departs,
    )
