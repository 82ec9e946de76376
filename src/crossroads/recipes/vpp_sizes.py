"""The sizes of VPP: nano, and what was published for CALVIN (arXiv 2412.14803; configs of the MIT code)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.clip_text import ClipStates
from crossroads.codecs.frame_latents import Folded, FrameLatents
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.state import StateToken
from crossroads.codecs.svd_autoencoder import SvdAutoencoder
from crossroads.codecs.text import TextTokens
from crossroads.noise import EdmLevels, LevelSampler, LogLogisticLevels
from crossroads.recipes import nano
from crossroads.towers.given import Given
from crossroads.towers.mdt import MdtDecoder, MdtEncoder
from crossroads.towers.plain import Plain
from crossroads.towers.video_former import VideoFormer
from crossroads.towers.video_unet import VideoUNet

VIDEO_LEVELS = EdmLevels(log_mean=0.7, log_std=1.6, even_share=0.0, limits=(1e-4, 700.0))
"""Of the video model's training (``train_svd.py``)."""
ACTION_SPREAD = 0.5


@dataclass(frozen=True, kw_only=True)
class VppSize:
    """What differs between sizes. ``tap``: the block of the UNet's decoder up to which the Video Former reads."""

    text: TextTokens | ClipStates
    text_tower: Plain | Given
    video: FrameLatents
    unet: VideoUNet
    tap: int
    gathered: LearnedTokens
    former: VideoFormer
    state: StateToken
    encoder: MdtEncoder
    action: ActionTokens
    decoder: MdtDecoder
    video_levels: LevelSampler
    action_levels: LevelSampler
    denoising_steps: int
    departs: tuple[str, ...]


def _former(unet: VideoUNet, tap: int, width: int, depth: int, heads: int, head_dim: int, num: int) -> VideoFormer:
    return VideoFormer(
        width=width,
        depth=depth,
        heads=heads,
        head_dim=head_dim,
        context_width=unet.tap_width(tap),
        frames=unet.frames,
        per_frame=num,
    )


NANO_UNET = VideoUNet(
    frames=len(nano.FUTURE_S),
    latent_hw=(16, 16),
    channels=48,
    beside=48,
    block_channels=(16, 32),
    heads=(2, 2),
    context_width=nano.TEXT_TOWER.width,
    attends=(True, True),
    layers=(1, 1),
    time_id_width=8,
    groups=8,
)
NANO_FORMER = _former(NANO_UNET, 1, width=96, depth=2, heads=4, head_dim=24, num=4)
NANO = VppSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    video=FrameLatents(
        cameras=nano.CAMERAS, image_hw=nano.IMAGE_HW, future_s=nano.FUTURE_S, autoencoder=Folded(fold=4)
    ),
    unet=NANO_UNET,
    tap=1,
    gathered=LearnedTokens(num=4 * NANO_FORMER.per_frame, std=1.0),
    former=NANO_FORMER,
    state=replace(nano.STATE, hidden=(192,), activation="mish"),
    encoder=MdtEncoder(
        width=96,
        depth=2,
        heads=4,
        context_width=NANO_FORMER.width,
        image_width=nano.TEXT_TOWER.width,
        num_seen=4 * NANO_FORMER.per_frame,
    ),
    action=nano.ACTION,
    decoder=MdtDecoder(width=96, depth=2, heads=4, context_width=96),
    video_levels=VIDEO_LEVELS,
    action_levels=LogLogisticLevels(),
    denoising_steps=nano.DENOISING_STEPS,
    departs=(
        "At nano size the video UNet has two blocks of 16 and 32 channels and denoises pixels, folded 4 x 4 into one "
        "place, of 4 frames over 1.2 s of one camera at 64 px; the Video Former has 2 layers and 4 tokens per frame.",
        "At nano size acting takes 5 steps instead of 10, as all nano arms do.",
        "At nano size the words go through a two-layer encoder trained with the video model, their mean is the goal, "
        "and the UNet leaves out padding.",
        "At nano size nothing is pretrained: `full` trains video model and policy at once (the features carry no "
        "gradient); `video`, then `policy` are the published two.",
    ),
)

SVD = "stabilityai/stable-video-diffusion-img2vid"
PUBLISHED_UNET = VideoUNet(
    frames=16,
    latent_hw=(32, 32),
    channels=4,
    beside=4,
    block_channels=(320, 640, 1280, 1280),
    heads=(5, 10, 20, 20),
    context_width=512,
    attends=(True, True, True, False),
    text_repeats=2,
)
PUBLISHED_FORMER = replace(_former(PUBLISHED_UNET, 1, width=384, depth=6, heads=8, head_dim=64, num=14), cameras=2)
PUBLISHED = VppSize(
    text=ClipStates(source="openai/clip-vit-base-patch32", width=512, max_tokens=20),
    text_tower=Given(width=512),
    video=FrameLatents(
        cameras=("front", "wrist"),
        image_hw=(256, 256),
        future_s=tuple(0.1 * (step + 1) for step in range(16)),
        autoencoder=SvdAutoencoder(source=SVD),
    ),
    unet=PUBLISHED_UNET,
    tap=1,
    gathered=LearnedTokens(num=16 * 14, std=1.0),
    former=PUBLISHED_FORMER,
    state=StateToken(num_state=15, hidden=(768,), activation="mish"),
    encoder=MdtEncoder(width=384, depth=4, heads=8, context_width=384, image_width=512, num_seen=16 * 14),
    action=ActionTokens(num_actions=10, action_size=7, control_hz=30.0, normaliser="min_max"),
    decoder=MdtDecoder(width=384, depth=4, heads=8, context_width=384, causal_reading=True),
    video_levels=VIDEO_LEVELS,
    action_levels=LogLogisticLevels(),
    denoising_steps=10,
    departs=(
        "The clip is the 16 frames after the present one; published predicts the present one as the first of its 16.",
        "The goal is the mean of the words' CLIP states; published takes CLIP's own vector of the sentence.",
        "The present frame is not made noisier before it enters, and the video model is always told the words "
        "(published leaves them out in 5 % of training).",
        "Published guesses of control rate and of the spacing of frames are ours: the code takes them from its data.",
        "No dropout (published 0.3 in the policy's attention, 0.1 behind it, 0.05 in its networks).",
        "The UNet runs to its end to be tapped; published stops behind the tapped block.",
        "As in the code, and not in the paper, action i reads the first i + 1 states of the encoder alone "
        "(``causal_reading``).",
        "The video model starts at random, unless Stable Video Diffusion's weights are read into it (`start_from`).",
    ),
)
