"""Voltron's network: two frames of a clip and words in, and what it is learned by (Karamcheti et al. 2023, arXiv
2302.12766, the form V-Gen; siddk/voltron-robotics, MIT). Weights have the published names, so a published file fits.

An encoder sees some patches of both frames and the words; a decoder paints the patches that were hidden and, where the
encoder was shown no words, writes them. What a policy reads are the encoder's states of the later frame and the words.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

FRAMES = 2
EPSILON = 1e-8
"""Below the length of a state, and beside the sum of the weights of words, as published."""


@dataclass(frozen=True, kw_only=True)
class Voltron:
    """Sizes; the encoder's, then the decoder's. ``hidden``: the share of patches that training hides, the same in both
    frames. ``painting`` and ``writing``: what the two losses count."""

    resolution: int = 224
    patch: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 6
    decoder_width: int = 192
    decoder_depth: int = 6
    decoder_heads: int = 6
    words_width: int = 768
    max_words: int = 20
    vocabulary: int = 30522
    hidden: float = 0.75
    painting: float = 1.0
    writing: float = 0.5

    @property
    def side(self) -> int:
        return self.resolution // self.patch

    @property
    def num_patches(self) -> int:
        return self.side**2

    @property
    def num_shown(self) -> int:
        """How many patches of a frame are left; in the published rounding of floats."""
        return int(self.num_patches * (1 - self.hidden))


class LengthNorm(nn.Module):
    """``x / max(|x| / sqrt(w), eps) * g``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        length = x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / length.clamp(min=EPSILON) * self.g


class Gated(nn.Module):
    """``a * silu(b)`` of one linear map's two halves."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 2 * inner)

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b v"]:
        value, gate = self.project(x).chunk(2, dim=-1)
        return value * functional.silu(gate)


class Scale(nn.Module):
    """A weight for each channel of what a half of a layer adds."""

    def __init__(self, width: int, start: float = 0.1) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        return x * self.gamma


class SelfAttention(nn.Module):
    """One softmax over all tokens. ``seen``: who reads whom; a token that reads nobody reads all alike."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n w"], seen: Bool[Tensor, "b n m"]) -> Float[Tensor, "b n w"]:
        q, k, v = rearrange(self.qkv(x), "b n (t h d) -> t b h n d", t=3, h=self.heads).unbind()
        score = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        least = torch.finfo(score.dtype).min
        share = score.masked_fill(~seen.unsqueeze(1), least).softmax(dim=-1)
        return self.proj(rearrange(share @ v, "b h n d -> b n (h d)"))


class VoltronLayer(nn.Module):
    """Norms before, scales behind."""

    def __init__(self, width: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        self.pre_norm_attn, self.attn, self.layer_scale_attn = (
            LengthNorm(width),
            SelfAttention(width, heads),
            Scale(width),
        )
        self.pre_norm_mlp, self.layer_scale_mlp = LengthNorm(width), Scale(width)
        inner = ratio * width
        self.mlp = nn.Sequential(Gated(width, inner), nn.Identity(), nn.Linear(inner, width))

    def forward(self, x: Float[Tensor, "b n w"], seen: Bool[Tensor, "b n m"]) -> Float[Tensor, "b n w"]:
        x = x + self.layer_scale_attn(self.attn(self.pre_norm_attn(x), seen))
        return x + self.layer_scale_mlp(self.mlp(self.pre_norm_mlp(x)))


class Entry(nn.Module):
    """Pictures as patches."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        return rearrange(self.proj(pictures), "b d rows columns -> b (rows columns) d")


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Which patches an encoder was shown: its states of them, which are hidden (1) and how to put all in order."""

    states: Float[Tensor, "b f shown w"]
    hidden: Float[Tensor, "b n"]
    back: Int[Tensor, "b n"]


class VoltronNet(nn.Module):
    """The module of :class:`Voltron`. Pictures are normalised; words are states or embeddings of a frozen encoder."""

    def __init__(self, spec: Voltron) -> None:
        super().__init__()
        self.spec = spec
        w, d = spec.width, spec.decoder_width
        self.patch2embed = Entry(w, spec.patch)
        self.encoder_blocks = nn.ModuleList([VoltronLayer(w, spec.heads) for _ in range(spec.depth)])
        self.encoder_norm = LengthNorm(w)
        self.lang2encoder, self.lang2decoder = nn.Linear(spec.words_width, w), nn.Linear(spec.words_width, d)
        self.encoder2decoder = nn.Linear(w, d)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, 1, d))
        self.decoder_blocks = nn.ModuleList([VoltronLayer(d, spec.decoder_heads) for _ in range(spec.decoder_depth)])
        self.decoder_norm = LengthNorm(d)
        self.decoder_patch_prediction = nn.Linear(d, 3 * spec.patch**2)
        self.decoder_lang_prediction = nn.Linear(d, spec.vocabulary)
        self.img_enc_token = nn.Parameter(0.02 * torch.randn(1, 1, 1, w))
        self.lang_enc_token = nn.Parameter(0.02 * torch.randn(1, 1, w))
        self.ctx_enc_pe = nn.Parameter(torch.randn(1, FRAMES, 1, w))
        self.ctx_dec_pe = nn.Parameter(torch.randn(1, FRAMES, 1, d))
        self.register_buffer("encoder_pe", square_places(w, spec.side)[None])
        self.register_buffer("decoder_pe", square_places(d, spec.side)[None])

    def patches(self, pictures: Float[Tensor, "b f 3 h w"]) -> Float[Tensor, "b f n d"]:
        """All patches of both frames, told where and in which frame they are."""
        entered = self.patch2embed(rearrange(pictures, "b f c h w -> (b f) c h w")) + self.get_buffer("encoder_pe")
        return rearrange(entered, "(b f) n w -> b f n w", f=FRAMES) + self.ctx_enc_pe + self.img_enc_token

    def encoded(
        self, patches: Float[Tensor, "b f n d"], words: Float[Tensor, "b l c"], spoken: Bool[Tensor, "b l"]
    ) -> Float[Tensor, "b m d"]:
        """States of patches and words together. A word that is not there reads all alike, and is read by the others
        (published: the mask hides rows of the scores, not columns)."""
        tokens = [rearrange(patches, "b f n w -> b (f n) w"), self.lang2encoder(words) + self.lang_enc_token]
        x = torch.cat(tokens, dim=1)
        there = torch.cat([torch.ones_like(tokens[0][..., 0], dtype=torch.bool), spoken], dim=1)
        seen = repeat(there, "b n -> b n m", m=x.shape[1])
        for layer in self.encoder_blocks:
            x = layer(x, seen)
        return self.encoder_norm(x)

    def representation(
        self, pictures: Float[Tensor, "b f 3 h w"], words: Float[Tensor, "b l c"], spoken: Bool[Tensor, "b l"]
    ) -> Float[Tensor, "b m d"]:
        """What a policy reads: states of the later frame's patches, then of the words."""
        return self.encoded(self.patches(pictures), words, spoken)[:, self.spec.num_patches :]

    def masked(
        self,
        pictures: Float[Tensor, "b f 3 h w"],
        words: Float[Tensor, "b l c"],
        spoken: Bool[Tensor, "b l"],
        drawn: Float[Tensor, "b n"],
    ) -> Masked:
        """The encoder in training: of each frame the patches with the least ``drawn`` numbers are shown."""
        patches, num = self.patches(pictures), self.spec.num_shown
        order = drawn.argsort(dim=1)
        chosen = repeat(order[:, :num], "b n -> b f n w", f=FRAMES, w=patches.shape[-1])
        back = order.argsort(dim=1)
        x = self.encoded(patches.gather(2, chosen), words, spoken)[:, : FRAMES * num]
        states = rearrange(x, "b (f n) w -> b f n w", f=FRAMES)
        return Masked(states=states, hidden=(back >= num).float(), back=back)

    def decoded(
        self, found: Masked, words: Float[Tensor, "b l c"], spoken: Bool[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b f n p"], Float[Tensor, "b l v"]]:
        """Pixels of all patches, and the scores of each word's next."""
        shown = self.encoder2decoder(found.states)
        num = self.spec.num_patches - shown.shape[2]
        blank = self.mask_token.expand(len(shown), FRAMES, num, -1)
        place = repeat(found.back, "b n -> b f n w", f=FRAMES, w=shown.shape[-1])
        patches = torch.cat([shown, blank], dim=2).gather(2, place) + self.get_buffer("decoder_pe") + self.ctx_dec_pe
        flat = rearrange(patches, "b f n w -> b (f n) w")
        x = torch.cat([flat, self.lang2decoder(words)], dim=1)
        there = torch.cat([torch.ones_like(flat[..., 0], dtype=torch.bool), spoken], dim=1)
        seen = there.unsqueeze(-1) & self.prefix(words.shape[1], x.device)
        for layer in self.decoder_blocks:
            x = layer(x, seen)
        x = self.decoder_norm(x)
        painted = rearrange(x[:, : flat.shape[1]], "b (f n) w -> b f n w", f=FRAMES)
        return self.decoder_patch_prediction(painted), self.decoder_lang_prediction(x[:, flat.shape[1] :])

    def prefix(self, num_words: int, device: torch.device) -> Bool[Tensor, "n m"]:
        """Patches read all patches; a word reads all patches, itself and the words before it."""
        num = FRAMES * self.spec.num_patches
        seen = torch.ones(num + num_words, num + num_words, dtype=torch.bool, device=device).tril()
        seen[:num, :num] = True
        return seen


def painted(
    spec: Voltron, pictures: Float[Tensor, "b f 3 h w"], told: Float[Tensor, "b f n p"], hidden: Float[Tensor, "b n"]
) -> Float[Tensor, " f"]:
    """Of each frame the mean squared error of the hidden patches, whose pixels are scaled patch by patch (by the
    unbiased deviation)."""
    right = rearrange(pictures, "b f c (h p) (w q) -> b f (h w) (p q c)", p=spec.patch, q=spec.patch)
    right = (right - right.mean(dim=-1, keepdim=True)) / (right.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    error = ((told - right) ** 2).mean(dim=-1)
    return (error * hidden.unsqueeze(1)).sum(dim=(0, 2)) / hidden.sum()


def written(
    scores: Float[Tensor, "b l v"], words: Int[Tensor, "b l"], spoken: Bool[Tensor, "b l"], counts: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Cross-entropy of the next word, mean over each sentence and then over those that count. Published code asks
    whether the word that is read is there, not the one that is told, so the first blank is learned as well."""
    error = functional.cross_entropy(rearrange(scores[:, :-1], "b l v -> b v l"), words[:, 1:], reduction="none")
    there = spoken[:, :-1].float()
    sentence = (error * there).sum(dim=1) / there.sum(dim=1)
    return (sentence * counts).sum() / (EPSILON + counts.sum())


def square_places(width: int, side: int) -> Float[Tensor, "n w"]:
    """Fixed sinusoids: the first half of the channels tells the column, the second the row (MAE's table)."""
    frequency = 1e4 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angle = torch.arange(side, dtype=torch.float64)[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=-1).float()
    column, row = (repeat(wave, f"{axis} w -> (y x) w", x=side, y=side) for axis in ("x", "y"))
    return torch.cat([column, row], dim=-1)
