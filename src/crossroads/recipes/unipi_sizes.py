"""The sizes of UniPi: nano, and the simulated one of the paper (arXiv 2302.00111, section 4 and appendix)."""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.codecs.blank_actions import BlankActions
from crossroads.codecs.clip_text import ClipStates
from crossroads.codecs.frame_latents import Folded, FrameLatents
from crossroads.codecs.pairs import FramePairs
from crossroads.codecs.text import TextTokens
from crossroads.diffusion import CosineBetas, Process
from crossroads.recipes import nano
from crossroads.towers.given import Given
from crossroads.towers.pair_reader import PairReader
from crossroads.towers.plain import Plain
from crossroads.towers.planner_unet import PlannerUNet, Resampler

PROCESS = Process(betas=CosineBetas(), num_steps=100, answers="v")
"""AVDC's."""
COARSE = 2
"""Of so many frames of the whole plan one is drawn first."""


@dataclass(frozen=True, kw_only=True)
class UnipiSize:
    """What differs between sizes: the frames of the whole plan, the two UNets, the inverse model."""

    text: TextTokens | ClipStates
    text_tower: Plain | Given
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    future_s: tuple[float, ...]
    fold: int
    base: int
    multiples: tuple[int, ...]
    blocks: int
    attends: tuple[int, ...]
    head_channels: int
    resampler: Resampler
    pair_fold: int
    pair_channels: int
    hidden: int
    action: BlankActions
    denoising_steps: int
    departs: tuple[str, ...]

    def clip(self, *, coarse: bool) -> FrameLatents:
        """The frames of the first draught, or of the whole plan with those beside it."""
        return FrameLatents(
            cameras=self.cameras,
            image_hw=self.image_hw,
            future_s=self.future_s,
            autoencoder=Folded(fold=self.fold),
            every=COARSE if coarse else 1,
            known_every=0 if coarse else COARSE,
        )

    def unet(self, *, coarse: bool) -> PlannerUNet:
        """The network that draws them."""
        clip = self.clip(coarse=coarse)
        return PlannerUNet(
            frames=len(clip.times_s),
            latent_hw=clip.latent_hw,
            channels=clip.autoencoder.channels,
            beside=clip.num_channels - clip.autoencoder.channels,
            base=self.base,
            blocks=self.blocks,
            multiples=self.multiples,
            attends=self.attends,
            head_channels=self.head_channels,
            context_width=self.text_tower.width,
            resampler=self.resampler,
            num_steps=PROCESS.num_steps,
            groups=min(32, self.base),
        )

    @property
    def pairs(self) -> FramePairs:
        """What the inverse model sees."""
        return FramePairs(cameras=self.cameras, image_hw=self.image_hw, ahead_s=self.future_s, fold=self.pair_fold)

    @property
    def inverse(self) -> PairReader:
        """The inverse model."""
        return PairReader(
            latent_hw=self.pairs.latent_hw,
            context_width=self.pairs.width,
            channels=self.pair_channels,
            width=self.hidden,
            between=self.action.num_actions // len(self.future_s),
        )


NANO = UnipiSize(
    text=nano.TEXT,
    text_tower=nano.TEXT_TOWER,
    cameras=nano.CAMERAS,
    image_hw=nano.IMAGE_HW,
    future_s=nano.FUTURE_S,
    fold=4,
    base=16,
    multiples=(1, 2),
    blocks=1,
    attends=(2,),
    head_channels=16,
    resampler=Resampler(heads=2, head_dim=16, depth=1, latents=8, pooled=2, places=nano.TEXT.max_tokens),
    pair_fold=4,
    pair_channels=32,
    hidden=64,
    action=BlankActions(
        num_actions=nano.NUM_ACTIONS, action_size=nano.ACTION_SIZE, control_hz=nano.CONTROL_HZ, normaliser="mean_std"
    ),
    denoising_steps=nano.DENOISING_STEPS,
    departs=(
        "At nano size a UNet has two levels of 16 and 32 channels and denoises pixels, folded 4 x 4 into one place, of "
        "2 and then 4 frames over 1.2 s of one camera at 64 px; three actions lie between two frames, published one.",
        "At nano size acting takes 5 steps for each of the two clips, as all nano arms do.",
        "At nano size the words go through a two-layer encoder trained with the video models.",
    ),
)

PUBLISHED = (
    UnipiSize(  # the combinatorial blocks and CLIPort: 10 frames of 48 x 64 at every 8th step, then 20 at every 4th
        text=ClipStates(source="openai/clip-vit-base-patch32", width=512, max_tokens=77),
        text_tower=Given(width=512),
        cameras=("image",),
        image_hw=(48, 64),
        future_s=tuple(0.2 * (step + 1) for step in range(20)),
        fold=1,
        base=512,
        multiples=(1, 2, 4),
        blocks=3,
        attends=(2, 4),
        head_channels=64,
        resampler=Resampler(),
        pair_fold=1,
        pair_channels=128,
        hidden=128,
        action=BlankActions(num_actions=20, action_size=7, control_hz=5.0),
        denoising_steps=100,
        departs=(
            "The words are CLIP ViT-B/32's states through AVDC's resampler; published reads a frozen T5-XXL.",
            "Attention stands at 24 and 12 rows; published says 24, 12 and 6, and three levels of 48 rows end at 12.",
            "Time between frames, control rate and channels of the inverse model are not published; they are ours.",
        ),
    )
)
