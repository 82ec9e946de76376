"""A video tower on its own, as diffusers' transformers are: a latent clip that reads itself and, across, words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.objectives import Flow
from crossroads.recipe import Stage, Tower
from crossroads.schedule import Denoise
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.joint import GroupInput
from crossroads.towers.spec import Places
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class Alone:
    """A tower and the clip that it is run on: latent channels, (frames, rows, columns) of latents, patch, words."""

    tower: Wan | Cosmos
    channels: int
    latents: tuple[int, int, int]
    patch: int
    num_words: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens."""
        frames, rows, columns = self.latents
        return frames, rows // self.patch, columns // self.patch

    def net(self) -> StreamNet:
        """The network; its tower's ``context_width`` is the width of the words."""
        frames, rows, columns = self.latents
        width = self.tower.context_width
        scale = WanAutoencoder(source="none", channels=self.channels)
        video = VideoLatents(
            cameras=("front",),
            image_hw=(rows * scale.space_factor, columns * scale.space_factor),
            future_s=tuple(float(step) for step in range(TIME_FACTOR * frames)),
            autoencoder=scale,
            patch=self.patch,
            marked=isinstance(self.tower, Cosmos),
        )
        words = TextFeatures(source="none", width=width, max_tokens=self.num_words)
        return build_net(
            Stage(
                name="video",
                streams=(
                    Stream(name="text", carries="text", codec=words, tower="text"),
                    Stream(
                        name="video", carries="video", codec=video, tower="video", views=(NOISED,), objective=Flow()
                    ),
                ),
                edges=(*reads("text", "text"), *reads("video", "video"), *reads("video", "text", via="cross")),
                towers=(Tower(name="text", spec=Given(width=width)), Tower(name="video", spec=self.tower)),
                schedule=(Denoise(streams=("video",), steps=1),),
            )
        )

    def inputs(
        self, net: StreamNet, x: Float[Tensor, "b c t h w"], level: Float[Tensor, "b l"], words: Float[Tensor, "b m v"]
    ) -> dict[str, GroupInput]:
        """Embedded tokens. ``level`` is per sample (``l`` 1), per latent frame or per token.

        The first frame is a frame like the others here; in a recipe it is the frame of now, in a group of its own.
        """
        frames, rows, columns = self.grid
        tokens = rearrange(x, "b c t (h p) (w q) -> b (t h w) (p q c)", p=self.patch, q=self.patch)
        if level.shape[1] == frames > 1:
            level = repeat(level, "b t -> b (t n)", n=rows * columns)
        valid = {name: torch.ones(part.shape[:2]).bool() for name, part in (("text", words), ("video", tokens))}
        video = net.embed("video", tokens, level, valid)
        grid = torch.cartesian_prod(torch.arange(frames), torch.arange(rows), torch.arange(columns)).float()
        video = replace(video, places=Places(index=video.places.index, grid=grid.to(x.device)))
        return {"text": net.embed("text", words, torch.zeros(len(words), 1), valid), "video": video}

    def answer(self, net: StreamNet, inputs: dict[str, GroupInput]) -> Float[Tensor, "b c t h w"]:
        """The network's raw output."""
        frames, rows, columns = self.grid
        read = net.codec("video").read(net(inputs, {})["video"].hidden)
        sizes = {"t": frames, "h": rows, "w": columns, "p": self.patch, "q": self.patch}
        return rearrange(read, "b (t h w) (p q c) -> b c t (h p) (w q)", **sizes)
