"""Latent action models of space-time blocks: continuous as DreamDojo's, or entries of a codebook as Genie's.

DreamDojo, arXiv 2602.06949, section 3.1 (``external/lam``, Apache-2.0): each frame's patches behind a learned token in
which the change since the frame before gathers; the next frame is made from the frame and that change. Genie, Bruce et
al. 2024, arXiv 2402.15391, section 2.1: the same with causal attention over time on both sides and 8 codes; its code is
closed, and how it gathers a frame's tokens into one is not said.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.frame_pairs import Motion, MotionNet, frames_of, nearest_code, patches_of
from crossroads.codecs.space_time import Entering, SpaceTime, SpaceTimeNet
from crossroads.streams import linear_flops, linear_parameters


@dataclass(frozen=True, kw_only=True)
class MotionTransformer:
    """One latent of ``code_size`` numbers for each transition.

    ``codebook`` 0: a Gaussian, learned with ``divergence`` times its divergence from the normal one (DreamDojo's beta);
    else so many entries, learned straight through, with ``commitment`` (VQ-VAE, arXiv 1711.00937).
    """

    image_hw: tuple[int, int]
    patch: int
    encoder: SpaceTime
    decoder: SpaceTime
    code_size: int = 32
    codebook: int = 0
    divergence: float = 1e-6
    commitment: float = 0.25

    @property
    def num_codes(self) -> int:
        return 1

    @property
    def owes(self) -> bool:
        return True

    @property
    def num_patches(self) -> int:
        return (self.image_hw[0] // self.patch) * (self.image_hw[1] // self.patch)

    @property
    def pixels(self) -> int:
        """Numbers of a patch."""
        return 3 * self.patch**2

    def num_parameters(self) -> int:
        w, p, c = self.encoder.width, self.pixels, self.code_size
        encoder = p + Entering.parameters_of(p, w) + self.encoder.num_parameters() + linear_parameters(w, w)
        gathered = linear_parameters(w, c * (1 if self.codebook else 2)) + self.codebook * c
        d = self.decoder.width
        decoder = linear_parameters(p, d) + linear_parameters(c, d) + Entering.parameters_of(d, d)
        return encoder + gathered + decoder + self.decoder.num_parameters() + linear_parameters(d, p)

    def encode_flops(self, num_frames: int) -> int:
        w, num, later = self.encoder.width, self.num_patches + 1, num_frames - 1
        made = linear_flops(num_frames * num, self.pixels, w) + self.encoder.flops(num_frames, num)
        size = self.code_size * (1 if self.codebook else 2)
        return made + linear_flops(later, w, w + size) + linear_flops(later, self.code_size, self.codebook)

    def flops(self, num_frames: int) -> int:
        d, num, later = self.decoder.width, self.num_patches, num_frames - 1
        made = linear_flops(later * num, self.pixels, 2 * d) + linear_flops(later, self.code_size, d)
        made += linear_flops(later * num, d, d) + self.decoder.flops(later, num)
        return self.encode_flops(num_frames) + made


class MotionTransformerNet(MotionNet):
    """The module of :class:`MotionTransformer`."""

    def __init__(self, spec: MotionTransformer) -> None:
        super().__init__()
        self.spec = spec
        w, d, p, c = spec.encoder.width, spec.decoder.width, spec.pixels, spec.code_size
        self.prompt = nn.Parameter(2 * torch.rand(p) - 1)
        self.enter, self.encoder, self.leave = Entering(p, w), SpaceTimeNet(spec.encoder), nn.Linear(w, w)
        self.gather = nn.Linear(w, c if spec.codebook else 2 * c)
        if spec.codebook:
            self.codebook = nn.Parameter(torch.randn(spec.codebook, c))
        self.patch_up, self.action_up = nn.Linear(p, d), nn.Linear(c, d)
        self.enter_decoder, self.decoder = Entering(d, d), SpaceTimeNet(spec.decoder)
        self.pixels = nn.Linear(d, p)

    def prompted(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t n d"]:
        """Each frame's patches behind the learned one."""
        patches = patches_of(frames, self.spec.patch)
        asked = repeat(self.prompt, "p -> b t 1 p", b=len(frames), t=frames.shape[1])
        return self.enter(torch.cat([asked, patches], dim=2))

    def gathered(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b f c"]:
        """What stands at the learned token of every frame but the first: a vector, or mean and log variance."""
        states = self.encoder(self.prompted(frames))[:, 1:, 0]
        return self.gather(self.leave(states))

    def latent(self, frames: Float[Tensor, "b t 3 h w"]) -> tuple[Float[Tensor, "b f n c"], Tensor]:
        found = self.gathered(frames)
        if not self.spec.codebook:
            return found[:, :, None, : self.spec.code_size], torch.zeros(*found.shape[:2], 0, device=found.device)
        codes = nearest_code(found, self.codebook)
        return self.codebook[codes][:, :, None], codes[:, :, None]

    def decoded(
        self, frames: Float[Tensor, "b f 3 h w"], latent: Float[Tensor, "b f n c"]
    ) -> Float[Tensor, "b f 3 h w"]:
        """The frame after each of some frames."""
        x = self.patch_up(patches_of(frames, self.spec.patch)) + self.action_up(latent)
        made = self.pixels(self.decoder(self.enter_decoder(x))).sigmoid()
        return frames_of(made, self.spec.patch, self.spec.image_hw)

    def forward(self, frames: Float[Tensor, "b t 3 h w"], noise: Float[Tensor, "b f n c"]) -> Motion:
        found = self.gathered(frames)
        if self.spec.codebook:
            latent, codes, owed = self._quantised(found)
        else:
            mean, spread = found.chunk(2, dim=-1)
            latent = (mean + noise[:, :, 0] * (0.5 * spread).exp())[:, :, None]
            codes = torch.zeros(*found.shape[:2], 0, device=found.device)
            owed = self.spec.divergence * divergence(found).mean(dim=1)
        return Motion(latent=latent, codes=codes, next=self.decoded(frames[:, :-1], latent), owed=owed)

    def _quantised(self, found: Float[Tensor, "b f c"]) -> tuple[Tensor, Tensor, Tensor]:
        codes = nearest_code(found, self.codebook)
        entry = self.codebook[codes]
        owed = (entry - found.detach()) ** 2 + self.spec.commitment * (entry.detach() - found) ** 2
        through = found + (entry - found).detach()
        return through[:, :, None], codes[:, :, None], owed.mean(dim=(1, 2))


def divergence(found: Float[Tensor, "b f c2"]) -> Float[Tensor, "b f"]:
    """Of Gaussians, given by mean and log variance, from the normal one."""
    mean, spread = found.chunk(2, dim=-1)
    return -0.5 * (1 + spread - mean**2 - spread.exp()).sum(dim=-1)


def dreamdojo_blocks(width: int, heads: int, depth: int, *, causal: bool, over_time: bool = True) -> SpaceTime:
    """Blocks as DreamDojo has them: every part normed, four times as wide between, frames told by rotation."""
    return SpaceTime(
        width=width, heads=heads, mlp=4 * width, depth=depth, over_time=over_time, causal=causal, rotary=True
    )
