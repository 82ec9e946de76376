"""The sizes of PAD: nano, and what was published (arXiv 2411.18179; the code's DiT-XL/2, commit a0bdc12)."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.chunk_token import ChunkToken
from crossroads.codecs.image_autoencoder import ImageAutoencoder
from crossroads.codecs.sentence import ClipSentences, SentenceTokens, WordMeans
from crossroads.codecs.stacked_latents import StackedLatents
from crossroads.codecs.steps import Steps
from crossroads.diffusion import LinearBetas, Process
from crossroads.recipes import nano
from crossroads.towers.dit import Dit
from crossroads.towers.given import Given

PROCESS = Process(betas=LinearBetas(), spread=True)
ONCE = Steps(num=1, apart_s=1.0, ahead=0)


@dataclass(frozen=True, kw_only=True)
class PadSize:
    """What differs between sizes."""

    text: SentenceTokens
    text_tower: Given
    video: StackedLatents
    action: ChunkToken
    tower: Dit
    process: Process
    denoising_steps: int
    departs: tuple[str, ...]


IN_COMMON = (
    "What tells the norms starts small, and the last maps as linear maps do; published starts both from nothing.",
    "The chunk is of all actions up to the last frame, and as many are executed as one asks for; published predicts a "
    "pose for each frame and executes the first.",
    "A chunk that runs past the end of an episode is hidden and not compared, as that of a sample without actions is; "
    "published shows noise there. Actions are compared from the first step on (published: from half of the training).",
    "Later frames begin after the present one; the code's first is the present one. No depth (an option of the paper).",
    "Words pass one linear map more before they are added to the level.",
)

NANO = PadSize(
    text=SentenceTokens(source=WordMeans(vocabulary=nano.VOCABULARY, width=64), steps=ONCE),
    text_tower=Given(width=64),
    video=StackedLatents(
        cameras=nano.CAMERAS,
        image_hw=nano.IMAGE_HW,
        future_s=(0.6, 1.2),
        autoencoder=nano.VIDEO.autoencoder,  # pyright: ignore[reportArgumentType]
        patch=2,
        stacked=2,
        beside_now=True,
        on_grid=True,
        spread=True,
    ),
    action=ChunkToken(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        num_state=nano.NUM_STATE,
        spread=True,
    ),
    tower=Dit(
        width=128,
        mlp=512,
        depth=6,
        heads=4,
        num_steps=1000,
        level_sizes=(64, 128, 128),
        num_places=0,
        num_ends=2,
        gelu="tanh",
    ),
    process=PROCESS,
    denoising_steps=10,
    departs=(
        *IN_COMMON,
        "At nano size one camera at 64 px, two later frames in 16 tokens, 12 actions, 6 blocks 128 wide, 10 steps.",
        "At nano size words are told as the mean of learned vectors.",
    ),
)

PUBLISHED = PadSize(
    text=SentenceTokens(source=ClipSentences(source="openai/clip-vit-base-patch32", width=512), steps=ONCE),
    text_tower=Given(width=512),
    video=StackedLatents(
        cameras=("front",),
        image_hw=(256, 256),
        future_s=(0.4, 0.8, 1.2),
        autoencoder=ImageAutoencoder(source="stabilityai/sd-vae-ft-mse"),
        patch=2,
        stacked=3,
        beside_now=True,
        on_grid=True,
        spread=True,
    ),
    action=ChunkToken(num_actions=12, action_size=7, control_hz=10.0, num_state=7, spread=True),
    tower=Dit(
        width=1152,
        mlp=4608,
        depth=28,
        heads=16,
        num_steps=1000,
        level_sizes=(256, 1152, 1152),
        num_places=0,
        num_ends=2,
        gelu="tanh",
    ),
    process=PROCESS,
    denoising_steps=50,
    departs=(
        *IN_COMMON,
        "The weights start at random; published starts from a DiT trained on ImageNet.",
    ),
)
