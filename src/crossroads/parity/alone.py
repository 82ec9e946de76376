"""A video tower on its own, as diffusers' transformers are: a latent clip that reads itself and, across, words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.latents import NUM_MARKS, VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.objectives import Flow
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Stage, Tower
from crossroads.streams import NOISED, Stream, linear_flops, reads
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.group import GroupInput
from crossroads.towers.spec import Places
from crossroads.towers.wan import Wan


@dataclass(frozen=True, kw_only=True)
class Alone:
    """A tower and the clip that it is run on: latent channels, (frames, rows, columns) of latents, patch, words.

    ``beside``: channels that enter beside the latent's own; ``num_images``: image tokens that the tower reads across.
    """

    tower: Wan | Cosmos
    channels: int
    latents: tuple[int, int, int]
    patch: int
    num_words: int
    beside: int = 0
    num_images: int = 0

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
            beside=self.beside,
        )
        crossed = {"text": (width, self.num_words)}
        if isinstance(self.tower, Wan) and self.num_images:
            crossed["image"] = (self.tower.image_width, self.num_images)
        return build_net(
            Stage(
                name="video",
                streams=(
                    *(
                        Stream(
                            name=name,
                            carries="text",
                            codec=TextFeatures(source="none", width=size, max_tokens=num),
                            tower=name,
                        )
                        for name, (size, num) in crossed.items()
                    ),
                    Stream(
                        name="video", carries="video", codec=video, tower="video", views=(NOISED,), objective=Flow()
                    ),
                ),
                edges=(
                    *reads("video", "video"),
                    *reads("video", *crossed, via="cross"),
                    *(edge for name in crossed for edge in reads(name, name)),
                ),
                towers=(
                    *(Tower(name=name, spec=Given(width=size)) for name, (size, _) in crossed.items()),
                    Tower(name="video", spec=self.tower),
                ),
                schedule=(Denoise(streams=("video",), solver=Euler(steps=1)),),
            )
        )

    def flops(self) -> int:
        """One forward pass of one sample with one level, from the specification alone."""
        frames, rows, columns = self.grid
        num, tower = frames * rows * columns, self.tower
        size = self.channels * self.patch**2
        more = (NUM_MARKS if isinstance(tower, Cosmos) else 0) + self.beside
        ends = linear_flops(num, size + more * self.patch**2, tower.width) + linear_flops(num, tower.width, size)
        context = {tower.context_width: self.num_words}
        if isinstance(tower, Wan) and self.num_images:
            context[tower.image_width] = self.num_images
        softmax = 2 * linear_flops(num, tower.attention_width, num)
        layers = tower.depth * (tower.layer_flops(num, context) + softmax)
        return ends + tower.frame_flops(1, context) + layers

    def inputs(
        self,
        net: StreamNet,
        x: Float[Tensor, "b c t h w"],
        level: Float[Tensor, "b l"],
        words: Float[Tensor, "b m v"],
        images: Float[Tensor, "b i u"] | None = None,
    ) -> dict[str, GroupInput]:
        """Embedded tokens. ``level`` is per sample (``l`` 1), per latent frame or per token.

        ``x`` has the latent's channels, or those and all that enter beside them. The first frame is a frame like the
        others here; in a recipe it is the frame of now, in a group of its own.
        """
        frames, rows, columns = self.grid
        tokens = rearrange(x, "b c t (h p) (w q) -> b (t h w) (p q c)", p=self.patch, q=self.patch)
        if level.shape[1] == frames > 1:
            level = repeat(level, "b t -> b (t n)", n=rows * columns)
        crossed = {"text": words} | ({} if images is None else {"image": images})
        valid = {name: torch.ones(part.shape[:2]).bool() for name, part in {**crossed, "video": tokens}.items()}
        latent = tokens[..., : self.channels * self.patch**2]  # a stand-in where x has all channels
        video = net.embed("video", latent, level, valid)
        if x.shape[1] > self.channels:
            video = replace(video, tokens=net.get_submodule("codecs.video.enter")(tokens))
        grid = torch.cartesian_prod(torch.arange(frames), torch.arange(rows), torch.arange(columns)).float()
        video = replace(video, places=Places(index=video.places.index, grid=grid.to(x.device)))
        still = torch.zeros(len(words), 1)
        return {"video": video, **{name: net.embed(name, part, still, valid) for name, part in crossed.items()}}

    def answer(self, net: StreamNet, inputs: dict[str, GroupInput]) -> Float[Tensor, "b c t h w"]:
        """The network's raw output."""
        frames, rows, columns = self.grid
        read = net.codec("video").read(net(inputs, {})["video"].hidden)
        sizes = {"t": frames, "h": rows, "w": columns, "p": self.patch, "q": self.patch}
        return rearrange(read, "b (t h w) (p q c) -> b c t (h p) (w q)", **sizes)
