"""The sizes of GENIMA: nano, and the published one for RLBench (arXiv 2407.07875; MohitShridhar/genima, Apache-2.0)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.clip_text import ClipStates
from crossroads.codecs.frame_latents import Folded
from crossroads.codecs.image_autoencoder import ImageAutoencoder
from crossroads.codecs.maps import FeatureMaps
from crossroads.codecs.target_pictures import TargetPictures
from crossroads.codecs.text import TextTokens
from crossroads.diffusion import Process, SquaredBetas
from crossroads.recipes import act, nano
from crossroads.recipes.act import ActSize, towers_of
from crossroads.towers.given import Given
from crossroads.towers.painter import Painter
from crossroads.towers.plain import Plain

PROCESS = Process(betas=SquaredBetas(), num_steps=1000, answers="epsilon")
"""Stable Diffusion's, of which SD-Turbo answers the noise."""


@dataclass(frozen=True, kw_only=True)
class GenimaSize:
    """What differs between sizes. ``clip``: the bounds within which an answered clean latent is kept, if there are."""

    text: TextTokens | ClipStates
    text_tower: Plain | Given
    target: TargetPictures
    painter: Painter
    controller: ActSize
    denoising_steps: int
    clip: float | None
    departs: tuple[str, ...]


CAMERAS = ("front", "wrist")
NANO = GenimaSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    target=TargetPictures(
        cameras=CAMERAS,
        image_hw=nano.IMAGE_HW,
        columns=2,
        after_s=nano.NUM_ACTIONS / nano.CONTROL_HZ,
        autoencoder=Folded(fold=4),
        radii_m=(0.02, 0.006),
    ),
    painter=Painter(
        latent_hw=(16, 32),
        channels=48,
        block_channels=(16, 32),
        attends=(True, False),
        heads=(2, 2),
        context_width=nano.TEXT_TOWER.width,
        steering=(8, 16, 16),
        layers=1,
        groups=8,
    ),
    controller=replace(
        act.NANO,
        image=replace(act.NANO.image, cameras=CAMERAS),
        **towers_of(width=96, mlp=192, heads=4, num_actions=nano.NUM_ACTIONS, depth=2, decoder_depth=2),
    ),
    denoising_steps=nano.DENOISING_STEPS,
    clip=1.0,
    departs=(
        "At nano size the painter has two levels of 16 and 32 channels and draws pixels, folded 4 x 4 into one place, "
        "of two cameras at 64 px side by side; it takes 5 steps, as all nano arms do.",
        "At nano size the words go through a two-layer encoder trained with the painter.",
        "At nano size the controller is the nano `act` on both cameras, with two layers in its decoder: 12 actions.",
    ),
)

TURBO = "stabilityai/sd-turbo"
VIEWS = ("wrist", "front", "right_shoulder", "left_shoulder")
PUBLISHED = GenimaSize(
    text=ClipStates(
        source=TURBO,
        width=1024,
        max_tokens=77,
        encoder="text_encoder",
        tokeniser="tokenizer",
        template="tiled perspectives of a robot arm executing '{task}'",
    ),
    text_tower=Given(width=1024),
    target=TargetPictures(
        cameras=VIEWS,
        image_hw=(256, 256),
        columns=2,
        after_s=1.0,
        autoencoder=ImageAutoencoder(source=TURBO, subfolder="vae"),
        radii_m=(0.03, 0.08, 0.065, 0.065),
    ),
    painter=Painter(
        latent_hw=(64, 64),
        channels=4,
        block_channels=(320, 640, 1280, 1280),
        attends=(True, True, True, False),
        heads=(5, 10, 20, 20),
        context_width=1024,
        linear=True,
    ),
    controller=ActSize(
        image=FeatureMaps(cameras=VIEWS, image_hw=(256, 256)),
        num_state=8,
        num_actions=20,
        action_size=8,
        control_hz=20.0,
        style=32,
        **towers_of(width=256, mlp=2048, heads=8, num_actions=20, depth=4, decoder_depth=6),
        kl_weight=10.0,
        departs=(),
    ),
    denoising_steps=10,
    clip=None,
    departs=(
        "The painter starts at random until SD-Turbo's weights are put in (`start_from`), and its UNet learns with its "
        "ControlNet; published keeps the UNet as it is.",
        "The ResNet-18 starts at random until ImageNet's weights are put in; its batch norms are frozen.",
        "The weight of the style's divergence is ACT's; published does not say.",
    ),
)
