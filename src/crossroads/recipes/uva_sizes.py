"""The sizes of UVA: nano, and what was published (arXiv 2503.00200; ``config/model/uva.yaml`` of its code)."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.bare import BareActions
from crossroads.codecs.bare_latents import BareLatents
from crossroads.codecs.image_autoencoder import ImageAutoencoder
from crossroads.codecs.sentence import ClipSentences, SentenceTokens, WordMeans
from crossroads.codecs.steps import Steps
from crossroads.diffusion import Process
from crossroads.recipes import nano
from crossroads.towers.fused_slots import Fused, FusedSlots
from crossroads.towers.token_heads import ChunkHead, TokenHead

PROCESS = Process(num_steps=1000, spread=True)
ONCE = Steps(num=1, apart_s=1.0, ahead=0)


@dataclass(frozen=True, kw_only=True)
class UvaSize:
    """What differs between sizes."""

    text: SentenceTokens
    video: BareLatents
    action: BareActions
    tower: FusedSlots
    video_head: TokenHead
    action_head: ChunkHead
    process: Process
    denoising_steps: int
    departs: tuple[str, ...]


def slots(channels: int) -> tuple[Fused, ...]:
    """Frames to come and actions, which are never shown, around what is seen."""
    return (Fused(name="future", blank="picture"), Fused(name="seen", size=channels), Fused(name="action", blank="act"))


IN_COMMON = (
    "Of its five questions two are asked, the policy's and the video's, of one pass. In that pass all frames to come "
    "are blank: published shows up to 30 % of their places (the same of each frame), and with actions given, or the "
    "frames given and what was seen blank, it also learns forward and inverse dynamics. So a video is drawn in one "
    "round, not in several.",
    "All tokens of a sample are noised to one step, not each to its own.",
    "Seen is the frame of now in the places of four frames; published has four of the last 16 steps.",
    "Fresh noise is of full size in acting (published 0.95 of it).",
    "What tells the norms of the heads starts small, and their last maps as linear maps do; published starts both from "
    "nothing, and the transformer from MAR's weights. No dropout, words are never dropped, the trainer's optimiser.",
    "Actions are scaled by their smallest and largest values, and none that lies behind the end of an episode counts.",
)

NANO = UvaSize(
    text=SentenceTokens(source=WordMeans(vocabulary=nano.VOCABULARY, width=32), steps=ONCE),
    video=BareLatents(
        cameras=nano.CAMERAS,
        image_hw=nano.IMAGE_HW,
        future_s=(0.6, 1.2),
        autoencoder=nano.VIDEO.autoencoder,  # pyright: ignore[reportArgumentType]
        patch=2,
        stacked=1,
        spread=True,
    ),
    action=BareActions(
        num_actions=nano.NUM_ACTIONS, action_size=nano.ACTION_SIZE, control_hz=nano.CONTROL_HZ, normaliser="min_max"
    ),
    tower=FusedSlots(
        width=64,
        parts=slots(64),
        frames=2,
        places=16,
        encoder_width=128,
        encoder_depth=3,
        encoder_heads=4,
        decoder_width=128,
        decoder_depth=3,
        decoder_heads=4,
        context_width=32,
        words=4,
    ),
    video_head=TokenHead(width=64, inner=128, depth=3, context_width=128),
    action_head=ChunkHead(
        width=nano.ACTION_SIZE,
        inner=128,
        depth=3,
        context_width=128,
        num_actions=nano.NUM_ACTIONS,
        frames=2,
        latent_hw=(4, 4),
    ),
    process=PROCESS,
    denoising_steps=10,
    departs=(
        *IN_COMMON,
        "At nano size one camera at 64 px, two frames of 4 x 4 places (2 x 2 latents each), 12 actions, three layers "
        "and three 128 wide, heads of three blocks, 10 steps; a sentence is the mean of learned vectors, 4 times.",
    ),
)

PUBLISHED = UvaSize(  # MAR-B; LIBERO's words and actions at 20 Hz
    text=SentenceTokens(source=ClipSentences(source="openai/clip-vit-base-patch32", width=512), steps=ONCE),
    video=BareLatents(
        cameras=("front",),
        image_hw=(128, 128),
        future_s=(0.2, 0.4, 0.6, 0.8),
        autoencoder=ImageAutoencoder(source="stabilityai/sdxl-vae"),
        patch=1,
        stacked=1,
        spread=True,
    ),
    action=BareActions(num_actions=16, action_size=7, control_hz=20.0, normaliser="min_max"),
    tower=FusedSlots(
        width=4,
        parts=slots(4),
        frames=4,
        places=256,
        encoder_width=768,
        encoder_depth=12,
        encoder_heads=12,
        decoder_width=768,
        decoder_depth=12,
        decoder_heads=12,
        context_width=512,
        words=64,
    ),
    video_head=TokenHead(width=4, inner=1024, depth=6, context_width=768),
    action_head=ChunkHead(
        width=7, inner=1024, depth=6, context_width=768, num_actions=16, frames=4, latent_hw=(16, 16)
    ),
    process=PROCESS,
    denoising_steps=100,
    departs=(
        *IN_COMMON,
        "Places are latents of SDXL's autoencoder, 4 channels at 128 px; published has MAR's own, 16 channels at 256 "
        "px, whose weights are in no public format that is read here.",
        "CLIP's sentence passes one linear map of its width before the transformer's own.",
    ),
)
