"""The UNet of Stable Video Diffusion, called as a whole; VPP reads the feature maps of its decoder.

Blattmann et al. 2023, arXiv 2311.15127 (diffusers' ``UNetSpatioTemporalConditionModel``, which runs here); VPP, Hu et
al. 2024, arXiv 2412.14803. A token is one place of a frame's latent, with the latents of the present frame behind it.
It is shown and owes what ``edm.Edm`` says of data of spread 1, with the other sign: published ``c_out`` is negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossroads.errors import InputError
from crossroads.noise import sigma_from_level
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.released import read_network, take_over
from crossroads.towers.spec import context_of

PUBLISHED_GROUPS = 32
"""Of the group norms, which diffusers fixes."""


@dataclass(frozen=True, kw_only=True)
class VideoUNet(ForwardTower):
    """Sizes.

    ``frames`` and ``latent_hw``: of a clip, of which a call may get several. ``channels`` are denoised, ``beside`` more
    enter with them. ``attends``: which blocks on the way down hold transformers; on the way up the mirrored ones do, if
    not told otherwise. ``time_ids``: frames per second, motion and noise of the present frame, as numbers.
    ``gathers``: what is read at a tap holds the feature maps of all blocks before it too, enlarged to its size.
    ``groups``: at most so many in a norm. ``text_repeats``: so many copies of a word's state side by side (VPP).
    ``sigma_most``: the noise scale of pure noise.
    """

    frames: int
    latent_hw: tuple[int, int]
    channels: int
    beside: int
    block_channels: tuple[int, ...]
    heads: tuple[int, ...]
    context_width: int
    attends: tuple[bool, ...]
    attends_up: tuple[bool, ...] = ()
    layers: tuple[int, ...] = ()
    transformer_layers: tuple[int, ...] = ()
    time_id_width: int = 256
    time_ids: tuple[float, ...] = (4.0, 127.0, 0.0)
    gathers: bool = True
    groups: int = PUBLISHED_GROUPS
    text_repeats: int = 1
    sigma_most: float = 700.0

    def __post_init__(self) -> None:
        num = len(self.block_channels)
        given = (self.heads, self.attends, self.attends_up or self.attends, self.layers or self.attends)
        if any(len(values) != num for values in (*given, self.transformer_layers or self.attends)):
            raise InputError(
                where="VideoUNet",
                expected=f"a value for each of {num} blocks",
                got=str(given),
                do="Give all tuples the length of block_channels.",
            )

    @property
    def width(self) -> int:
        return self.channels + self.beside

    @property
    def clip(self) -> int:
        """Tokens of one clip."""
        return self.frames * self.latent_hw[0] * self.latent_hw[1]

    @property
    def num_taps(self) -> int:
        return len(self.block_channels)

    def tap_width(self, tap: int) -> int:
        widths = self.block_channels[::-1]
        return sum(widths[: tap + 1]) if self.gathers else widths[tap]

    def tap_hw(self, tap: int) -> tuple[int, int]:
        """Rows and columns of the feature map after a block, which all but the last enlarge."""
        shrunk = 2 ** max(0, self.num_taps - 2 - tap)
        return self.latent_hw[0] // shrunk, self.latent_hw[1] // shrunk

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        rows, columns = self.tap_hw(tap)
        return num_tokens // self.clip * self.frames * rows * columns

    def frame(self) -> VideoUNetFrame:
        return VideoUNetFrame(self)


class MaskedReading:
    """How a block reads the words: diffusers' attention, with those that are not there left out (it has no mask)."""

    valid: Bool[Tensor, "b m"] | None = None

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: object) -> Tensor:
        q, k, v = (
            rearrange(flat, "b n (h d) -> b h n d", h=attn.heads)
            for flat in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        mask = None
        if self.valid is not None:  # rows come sample by sample, whether they are frames or places
            mask = self.valid.repeat_interleave(len(q) // len(self.valid), dim=0)[:, None, None, :]
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return attn.to_out[1](attn.to_out[0](rearrange(attended, "b h n d -> b n (h d)")))


class VideoUNetFrame(ForwardFrame):
    """The network of :class:`VideoUNet`."""

    def __init__(self, spec: VideoUNet) -> None:
        super().__init__()
        self.spec = spec
        self.net = _network(spec)
        self.reading = MaskedReading()
        for name, module in self.net.named_modules():
            if name.endswith("attn2"):
                module.set_processor(self.reading)  # pyright: ignore[reportCallIssue]

    def start_from(self, source: str, subfolder: str = "unet") -> None:
        """Take over the weights of a release (of Stable Video Diffusion, for instance) in diffusers' format.

        Raises:
            InputError: there is none, or it has other sizes.
        """
        release = read_network("UNetSpatioTemporalConditionModel", source, subfolder)
        take_over(self.net, release, f"video UNet of {source}")

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n c"]:
        spec, (rows, columns) = self.spec, self.spec.latent_hw
        num = x.shape[1] // spec.clip
        clips = rearrange(x, "b (k t h w) c -> (b k) t c h w", k=num, t=spec.frames, h=rows, w=columns)
        level = condition.level.repeat_interleave(num // condition.level.shape[1], dim=1).flatten()
        words = context_of(condition.contexts, spec.context_width)
        if words is None:
            raise InputError(
                where="VideoUNet tower",
                expected=f"words {spec.context_width} wide that are read by a cross edge",
                got="none",
                do="Add a cross edge from the words.",
            )
        self.reading.valid = words.valid.repeat_interleave(num, dim=0)
        hidden = words.hidden.repeat(1, 1, spec.text_repeats).repeat_interleave(num, dim=0)
        timestep = (sigma_from_level(level, spec.sigma_most).log() / 4).float()
        answer, taps = self.answer(clips, timestep, hidden)
        for at, tap in taps.items():
            condition.taps[at] = rearrange(tap, "(b k) t c h w -> b (k t h w) c", k=num)
        return rearrange(-answer, "(b k) t c h w -> b (k t h w) c", k=num)

    def answer(
        self, shown: Float[Tensor, "b t c h w"], timestep: Float[Tensor, " b"], words: Float[Tensor, "b m d"]
    ) -> tuple[Float[Tensor, "b t e h w"], dict[int, Float[Tensor, "b t _ _ _"]]]:
        """The network's raw answer, and what can be read behind each block of its decoder."""
        blocks: list[Tensor] = []
        handles = [block.register_forward_hook(lambda _, __, out: blocks.append(out)) for block in self.net.up_blocks]
        ids = torch.tensor([self.spec.time_ids], device=shown.device).expand(len(shown), -1)
        try:
            raw = self.net(shown, timestep, words, added_time_ids=ids, return_dict=False)[0]
        finally:
            for handle in handles:
                handle.remove()
        frames = shown.shape[1]
        return raw, {
            at: rearrange(self._read(blocks, at), "(b t) c h w -> b t c h w", t=frames) for at in range(len(blocks))
        }

    def _read(self, blocks: list[Tensor], tap: int) -> Tensor:
        if not self.spec.gathers:
            return blocks[tap]
        size = blocks[tap].shape[-2:]
        before = [functional.interpolate(block, size=size, mode="nearest") for block in blocks[:tap]]
        return torch.cat([*before, blocks[tap]], dim=1)


@contextmanager
def _norms_of(groups: int) -> Iterator[None]:
    """Group norms of at most so many groups, which diffusers does not let one choose."""
    if groups == PUBLISHED_GROUPS:
        yield
        return
    made = nn.GroupNorm

    def narrow(num_groups: int, num_channels: int, **settings: Any) -> nn.GroupNorm:
        return made(min(num_groups, groups), num_channels, **settings)

    nn.GroupNorm = narrow  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        nn.GroupNorm = made


def _network(spec: VideoUNet) -> Any:
    try:
        from diffusers.models.unets.unet_spatio_temporal_condition import (  # pyright: ignore[reportMissingImports]
            UNetSpatioTemporalConditionModel,
        )
    except ImportError as error:
        raise InputError(
            where="VideoUNet tower",
            expected="the package diffusers",
            got=str(error),
            do="Install it: pip install 'crossroads[backbones]'.",
        ) from error
    down = ("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal")
    up = ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal")
    num = len(spec.block_channels)
    with _norms_of(spec.groups):
        return UNetSpatioTemporalConditionModel(
            in_channels=spec.width,
            out_channels=spec.channels,
            down_block_types=tuple(down[attends] for attends in spec.attends),
            up_block_types=tuple(up[attends] for attends in spec.attends_up or spec.attends[::-1]),
            block_out_channels=spec.block_channels,
            addition_time_embed_dim=spec.time_id_width,
            projection_class_embeddings_input_dim=spec.time_id_width * len(spec.time_ids),
            layers_per_block=spec.layers or (2,) * num,  # pyright: ignore[reportArgumentType]
            cross_attention_dim=spec.context_width * spec.text_repeats,
            transformer_layers_per_block=spec.transformer_layers or (1,) * num,  # pyright: ignore[reportArgumentType]
            num_attention_heads=spec.heads,
            num_frames=spec.frames,
        )
