"""The sizes of UWM: nano, and what was published (arXiv 2504.02792; configurations of its code, commit 677560e)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.image_autoencoder import ImageAutoencoder
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.picture_vectors import PictureVectors
from crossroads.codecs.resnet import ResNet
from crossroads.codecs.sentence import ClipSentences, SentenceTokens, WordMeans
from crossroads.codecs.stacked_latents import StackedLatents
from crossroads.codecs.steps import Steps
from crossroads.diffusion import Process
from crossroads.recipes import nano
from crossroads.towers.dit import Dit
from crossroads.towers.given import Given

PROCESS = Process(num_steps=100)
ONCE = Steps(num=1, apart_s=1.0, ahead=0)


@dataclass(frozen=True, kw_only=True)
class UwmSize:
    """What differs between sizes. ``clip``: what a predicted clean value is kept within."""

    image: PictureVectors
    image_tower: Given
    text: SentenceTokens
    text_tower: Given
    video: StackedLatents
    action: ActionTokens
    registers: LearnedTokens
    tower: Dit
    process: Process
    denoising_steps: int
    clip: float
    departs: tuple[str, ...]


IN_COMMON = (
    "Seen is the frame of now alone; published sees the one before as well.",
    "What tells the norms starts small, and the last maps as linear maps do; published starts both from nothing.",
    "A sample without actions has none at all: its action tokens are hidden. Published shows noise there, told the "
    "last step, and still compares it.",
    "Words, an option of the code, are told, through two linear maps more; the paper trains one network per task.",
    "Noise that is held is told the last step, as in training; published tells it the first that the solver visits, "
    "90 of 99.",
)

NANO = UwmSize(
    image=PictureVectors(
        cameras=nano.CAMERAS, image_hw=nano.IMAGE_HW, network=ResNet(widths=(16, 32, 64), depths=(1, 1, 1), group=16)
    ),
    image_tower=Given(width=96),
    text=SentenceTokens(source=WordMeans(vocabulary=nano.VOCABULARY, width=64), steps=ONCE),
    text_tower=Given(width=64),
    video=StackedLatents(
        cameras=nano.CAMERAS,
        image_hw=nano.IMAGE_HW,
        future_s=(0.6, 1.2),
        autoencoder=nano.VIDEO.autoencoder,  # pyright: ignore[reportArgumentType]
        patch=2,
        stacked=2,
        first_place=nano.NUM_ACTIONS,
    ),
    action=replace(nano.ACTION, normaliser="min_max", hidden=(512,), activation="mish"),
    registers=LearnedTokens(num=8, first_place=nano.NUM_ACTIONS + 16),
    tower=Dit(
        width=128,
        mlp=512,
        depth=6,
        heads=4,
        num_steps=100,
        num_levels=2,
        level_sizes=(32, 128, 64),
        num_places=nano.NUM_ACTIONS + 16 + 8,
        context_width=96,
        num_seen=1,
        worded=True,
    ),
    process=PROCESS,
    denoising_steps=10,
    clip=3.0,
    departs=(
        *IN_COMMON,
        "At nano size one camera at 64 px, 12 actions, two frames in 16 tokens, 6 blocks 128 wide; a residual network "
        "of three stages from random weights.",
        "At nano size words are told as the mean of learned vectors, not by CLIP.",
        "At nano size predictions are clipped to -3..3, not -1..1: latents of the embedded autoencoder are of unit "
        "scale.",
    ),
)

PUBLISHED = UwmSize(
    image=PictureVectors(cameras=("front", "wrist"), image_hw=(224, 224), network=ResNet(group=16)),
    image_tower=Given(width=768),
    text=SentenceTokens(source=ClipSentences(source="openai/clip-vit-large-patch14", width=768), steps=ONCE),
    text_tower=Given(width=768),
    video=StackedLatents(  # steps 17 and 18 of LIBERO's 20 Hz
        cameras=("front", "wrist"),
        image_hw=(224, 224),
        future_s=(0.85, 0.9),
        autoencoder=ImageAutoencoder(source="stabilityai/sdxl-vae"),
        patch=4,
        stacked=2,
        first_place=16,
    ),
    action=ActionTokens(
        num_actions=16, action_size=7, control_hz=20.0, normaliser="min_max", hidden=(3072,), activation="mish"
    ),
    registers=LearnedTokens(num=8, first_place=16 + 98),
    tower=Dit(
        width=768,
        mlp=3072,
        depth=12,
        heads=12,
        num_steps=100,
        num_levels=2,
        level_sizes=(512, 2048, 512),
        num_places=16 + 98 + 8,
        context_width=768,
        num_seen=2,
        worded=True,
    ),
    process=PROCESS,
    denoising_steps=10,
    clip=1.0,
    departs=(
        *IN_COMMON,
        "The weights start at random until UWM's are imported; published starts its ResNet from ImageNet.",
        "No change of the pictures in training (published crops them at random).",
    ),
)
