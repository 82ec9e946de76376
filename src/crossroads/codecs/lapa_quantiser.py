"""LAPA's quantiser: two frames, and the few words of a tiny vocabulary that lead from one to the other.

Ye et al. 2024, arXiv 2410.11758, section 3.1; its code ``laq_model`` (MIT), a C-ViViT (Phenaki, arXiv 2210.02399) with
noise substitution for the gradient through the codebook (NSVQ, Vali and Backstrom 2022, IEEE Access).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.frame_pairs import Motion, MotionNet, all_reduced, frames_of, nearest_code, patches_of
from crossroads.errors import InputError
from crossroads.streams import linear_flops, linear_parameters

CONVOLUTIONS = {  # laq_model/nsvq.py: (kernel, stride, padding) of each, by the number of code tokens
    1: ((3, 2, 1), (4, 1, 0)),
    2: ((3, 2, 1), ((3, 4), 1, 0)),
    4: ((3, 2, 1), (3, 1, 0)),
    16: ((3, 2, 1), (3, 2, 1)),
    64: ((3, 2, 1),),
    256: ((3, 2, 1),),
}
LOGIT_SCALE = 8.0  # laq_model/attention.py: Attention, of queries and keys of unit length
NUM_NULL = 2  # laq_model/attention.py: keys and values of its own that each cross-attention reads
TINY = 1e-12  # laq_model/nsvq.py
SCARCE = 0.1  # laq_model/nsvq.py, discarding_threshold


@dataclass(frozen=True, kw_only=True)
class LapaQuantiser:
    """Square frames of ``image_hw`` in patches of ``patch``; ``num_codes`` tokens out of ``codebook``, ``code_size``
    numbers each; as many layers over space in the encoder as in the decoder."""

    image_hw: tuple[int, int] = (256, 256)
    patch: int = 32
    width: int = 1024
    code_size: int = 32
    codebook: int = 8
    num_codes: int = 4
    depth: int = 8
    time_depth: int = 8
    heads: int = 16
    head_dim: int = 64

    def __post_init__(self) -> None:
        rows, columns = self.grid_hw
        made = None
        if self.num_codes in CONVOLUTIONS and rows == columns:
            made = (rows, columns)
            for kernel, stride, padding in CONVOLUTIONS[self.num_codes]:
                sizes = kernel if isinstance(kernel, tuple) else (kernel, kernel)
                made = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(made, sizes, strict=True))
        if made is None or min(made) < 1 or made[0] * made[1] != self.num_codes:
            raise InputError(
                where="LapaQuantiser.num_codes",
                expected=f"one of {sorted(CONVOLUTIONS)} on a square grid that its convolutions bring to as many",
                got=f"{self.num_codes} on {rows} x {columns} patches",
                do="Take 4 codes on 8 x 8 patches, as published.",
            )

    @property
    def grid_hw(self) -> tuple[int, int]:
        return self.image_hw[0] // self.patch, self.image_hw[1] // self.patch

    @property
    def num_patches(self) -> int:
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def pixels(self) -> int:
        """Numbers of a patch."""
        return 3 * self.patch**2

    @property
    def inner(self) -> int:
        """Width inside a feed-forward layer: two thirds of four times (laq_model/attention.py)."""
        return int(4 * (2 / 3) * self.width)

    @property
    def owes(self) -> bool:
        return False

    def num_parameters(self) -> int:
        w, q, heads = self.width, self.code_size, self.heads * self.head_dim
        attention = w + 4 * w * heads + 2 * self.head_dim
        layer = 28 * w + attention + 2 * w + 3 * w * self.inner
        crossed = attention + w + 2 * NUM_NULL * heads
        layers = (2 * self.depth + self.time_depth) * layer + self.depth * crossed + 3 * w
        ends = 2 * self.pixels + linear_parameters(self.pixels, w) + 2 * w + linear_parameters(w, self.pixels)
        bias = linear_parameters(2, w) + linear_parameters(w, w) + linear_parameters(w, self.heads)
        taps = sum(_taps(kernel) for kernel, _, _ in CONVOLUTIONS[self.num_codes])
        convolutions = taps * q * q + len(CONVOLUTIONS[self.num_codes]) * q
        bottleneck = linear_parameters(w, q) + linear_parameters(q, w) + convolutions + self.codebook * q
        return ends + bias + layers + bottleneck

    def encode_flops(self, num_frames: int) -> int:
        """The convolutions within a channel count as what is done number by number, which is not counted."""
        n, w, q = self.num_patches, self.width, self.code_size
        made = linear_flops(2 * n, self.pixels, w) + self._bias_flops()
        made += 2 * self.depth * self._layer_flops(n, n) + n * self.time_depth * self._layer_flops(2, 2)
        side, squeezed = self.grid_hw[0], 0
        for kernel, stride, padding in CONVOLUTIONS[self.num_codes]:
            sizes = kernel if isinstance(kernel, tuple) else (kernel, kernel)
            rows, columns = ((side + 2 * padding - k) // stride + 1 for k in sizes)
            squeezed += linear_flops(rows * columns, _taps(kernel) * q, q)
            side = rows
        return made + 2 * (linear_flops(n, w, q) + squeezed) + linear_flops(self.num_codes, q, self.codebook)

    def flops(self, num_frames: int) -> int:
        n, w = self.num_patches, self.width
        crossed = self._attention_flops(n, self.num_codes, NUM_NULL)
        made = self.depth * (self._layer_flops(n, n) + crossed) + self._bias_flops() + linear_flops(n, w, self.pixels)
        return self.encode_flops(num_frames) + linear_flops(self.num_codes, self.code_size, w) + made

    def _bias_flops(self) -> int:
        pairs, w = self.num_patches**2, self.width
        return linear_flops(pairs, 2, w) + linear_flops(pairs, w, w) + linear_flops(pairs, w, self.heads)

    def _layer_flops(self, num: int, keys: int) -> int:
        return self._attention_flops(num, keys, 0) + linear_flops(num, self.width, 3 * self.inner)

    def _attention_flops(self, num: int, keys: int, more: int) -> int:
        w, heads = self.width, self.heads * self.head_dim
        maps = 2 * linear_flops(num, w, heads) + linear_flops(keys, w, 2 * heads)
        return maps + 2 * linear_flops(num, heads, keys + more)


def _taps(kernel: int | tuple[int, int]) -> int:
    return kernel[0] * kernel[1] if isinstance(kernel, tuple) else kernel**2


class LapaQuantiserNet(MotionNet):
    """The module of :class:`LapaQuantiser`."""

    def __init__(self, spec: LapaQuantiser) -> None:
        super().__init__()
        self.spec = spec
        w, q = spec.width, spec.code_size
        self.enter = nn.Sequential(nn.LayerNorm(spec.pixels), nn.Linear(spec.pixels, w), nn.LayerNorm(w))
        self.bias = nn.Sequential(
            nn.Linear(2, w), nn.LeakyReLU(0.1), nn.Linear(w, w), nn.LeakyReLU(0.1), nn.Linear(w, spec.heads)
        )
        self.space, self.time = Stack(spec, spec.depth, crossed=False), Stack(spec, spec.time_depth, crossed=False)
        self.squeeze = nn.Linear(w, q)
        found: list[nn.Module] = []
        for kernel, stride, padding in CONVOLUTIONS[spec.num_codes]:
            found += [nn.ReLU()] * bool(found) + [nn.Conv2d(q, q, kernel, stride, padding)]
        self.convolutions = nn.Sequential(*found)
        self.codebook = nn.Parameter(torch.randn(spec.codebook, q))
        self.spread = nn.Linear(q, w)
        self.decoder = Stack(spec, spec.depth, crossed=True)
        self.pixels = nn.Linear(w, spec.pixels)
        self.used: Tensor
        self.step: Tensor
        self.register_buffer("used", torch.zeros(spec.codebook, dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def patches(self, frames: Float[Tensor, "b 2 3 h w"]) -> Float[Tensor, "b 2 n d"]:
        return self.enter(patches_of(frames, self.spec.patch))

    def places(self) -> Float[Tensor, "heads n n"]:
        """What each head adds to its scores, by how far apart two patches are (Swin v2, arXiv 2111.09883)."""
        sides = [torch.arange(size, device=self.codebook.device) for size in self.spec.grid_hw]
        grid = torch.cartesian_prod(*sides).to(self.codebook.dtype)
        apart = grid[:, None] - grid[None]
        return rearrange(self.bias(apart.sign() * (apart.abs() + 1).log()), "q k h -> h q k")

    def encoded(self, patches: Float[Tensor, "b 2 n d"]) -> Float[Tensor, "b 2 n d"]:
        """Both frames, each within itself and then place by place."""
        batch, shape = len(patches), (len(patches), 2, *self.spec.grid_hw)
        x = self.space(rearrange(patches, "b t n w -> (b t) n w"), shape, bias=self.places())
        x = self.time(rearrange(x, "(b t) n w -> (b n) t w", b=batch), shape)
        return rearrange(x, "(b n) t w -> b t n w", b=batch)

    def squeezed(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b codes c"]:
        """The vectors of one frame."""
        grid = rearrange(self.squeeze(x), "b (h w) c -> b c h w", h=self.spec.grid_hw[0])
        return rearrange(self.convolutions(grid), "b c h w -> b (h w) c")

    def change(self, patches: Float[Tensor, "b 2 n d"]) -> Float[Tensor, "b codes c"]:
        """The vectors of the second frame less those of the first."""
        now, later = self.encoded(patches).unbind(dim=1)
        return self.squeezed(later) - self.squeezed(now)

    def context(self, codes: Float[Tensor, "b codes c"]) -> Float[Tensor, "b codes d"]:
        """What the decoder reads. Published code takes the numbers of all codes in one row and cuts that row by
        channels first (``NSVQ.decode``), so every vector is of all codes; weights are trained so."""
        mixed = codes.reshape(len(codes), self.spec.code_size, self.spec.num_codes)
        return self.spread(mixed.transpose(1, 2))

    def decoded(self, patches: Float[Tensor, "b n d"], context: Float[Tensor, "b codes d"]) -> Tensor:
        """The second frame from the first and the codes."""
        shape = (len(patches), 1, *self.spec.grid_hw)
        x = self.decoder(patches, shape, bias=self.places(), context=context)
        return frames_of(self.pixels(x)[:, None], self.spec.patch, self.spec.image_hw)

    def latent(self, frames: Float[Tensor, "b t 3 h w"]) -> tuple[Float[Tensor, "b f n c"], Int[Tensor, "b f n"]]:
        codes = nearest_code(self.change(self.patches(frames)), self.codebook)
        return self.codebook[codes][:, None], codes[:, None]

    def forward(self, frames: Float[Tensor, "b t 3 h w"], noise: Float[Tensor, "b f n c"]) -> Motion:
        """The quantised vector is the vector itself plus noise as long as its way to the codebook (NSVQ)."""
        learning = self.training and torch.is_grad_enabled() and self.codebook.requires_grad
        if learning:
            self._refresh(len(frames))
        patches = self.patches(frames)
        change = self.change(patches)
        codes = nearest_code(change, self.codebook)
        if learning:
            self.used += all_reduced(codes.flatten().bincount(minlength=self.spec.codebook))
            self.step += 1
        far = (change - self.codebook[codes]).square().sum(dim=-1, keepdim=True).sqrt()
        drawn = noise[:, 0]
        latent = change + (far / drawn.square().sum(dim=-1, keepdim=True).sqrt() + TINY) * drawn
        made = self.decoded(patches[:, 0].detach(), self.context(latent))
        return Motion(latent=latent[:, None], codes=codes[:, None], next=made, owed=far.new_zeros(len(frames)))

    @torch.no_grad()
    def _refresh(self, batch: int) -> None:
        """Every 10 steps below 100, every 100 below 1,000 and every 500 below 5,000, entries used less often than a
        tenth of the batch make room for copies of the others (``replace_unused_codebooks``)."""
        step = int(self.step)
        every = 10 if step < 100 else 100 if step < 1000 else 500
        if not 0 < step < 5000 or step % every:
            return
        scarce = self.used < SCARCE * batch
        kept = self.codebook[~scarce]
        if len(kept):
            drawn = torch.Generator().manual_seed(step)  # alike in every process
            chosen = torch.randint(len(kept), (int(scarce.sum()),), generator=drawn)
            self.codebook[scarce] = kept[chosen.to(kept.device)]
        self.used.zero_()


class Stack(nn.Module):
    """Layers over one axis of tokens: nearby patches mixed, attention, attention to the codes, a gated network."""

    def __init__(self, spec: LapaQuantiser, depth: int, *, crossed: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(spec, crossed=crossed) for _ in range(depth))
        self.norm = nn.LayerNorm(spec.width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "g n d"],
        shape: tuple[int, int, int, int],
        bias: Float[Tensor, "heads n n"] | None = None,
        context: Float[Tensor, "b codes d"] | None = None,
    ) -> Float[Tensor, "g n d"]:
        """``shape``: samples, frames, rows and columns that the tokens are taken to be."""
        for layer in self.layers:
            x = layer(x, shape, bias, context)
        return self.norm(x)


class Layer(nn.Module):
    """One layer of a :class:`Stack`; each part adds to what it reads."""

    def __init__(self, spec: LapaQuantiser, *, crossed: bool) -> None:
        super().__init__()
        self.near = Near(spec.width)
        self.attention = Attention(spec, num_null=0)
        self.cross = Attention(spec, num_null=NUM_NULL) if crossed else None
        self.norm = nn.LayerNorm(spec.width)
        self.up = nn.Linear(spec.width, 2 * spec.inner, bias=False)
        self.down = nn.Linear(spec.inner, spec.width, bias=False)

    def forward(self, x: Tensor, shape: tuple[int, int, int, int], bias: Tensor | None, context: Tensor | None):
        x = x + self.near(x, shape)
        x = x + self.attention(x, x, bias)
        if self.cross is not None and context is not None:
            x = x + self.cross(x, context, None)
        value, gate = self.up(self.norm(x)).chunk(2, dim=-1)
        return x + self.down(value * functional.gelu(gate))


class Near(nn.Module):
    """Each channel mixed over 3 x 3 patches and the frames up to two before (PEG, Chu et al. 2021, arXiv 2102.10882).

    The tokens are taken in the order in which they stand, whatever that is: over time, where published code orders
    them place by place, it takes them frame by frame all the same, and weights are trained so.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 3, 3, 3) * 27**-0.5)
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "g n d"], shape: tuple[int, int, int, int]) -> Float[Tensor, "g n d"]:
        _, frames, rows, columns = shape
        clip = functional.pad(x.reshape(*shape, -1), (0, 0, 1, 1, 1, 1, 2, 0))
        mixed = self.shift.expand(*shape, -1)
        for time in range(3):
            for row in range(3):
                for column in range(3):
                    part = clip[:, time : time + frames, row : row + rows, column : column + columns]
                    mixed = mixed + part * self.weight[:, time, row, column]
        return mixed.reshape(x.shape)


class Attention(nn.Module):
    """Queries and keys of unit length; queries of what is normed, keys and values of what is not, if it is oneself."""

    def __init__(self, spec: LapaQuantiser, *, num_null: int) -> None:
        super().__init__()
        self.heads, inner = spec.heads, spec.heads * spec.head_dim
        self.norm = nn.LayerNorm(spec.width, bias=False)
        self.q, self.kv = (nn.Linear(spec.width, size, bias=False) for size in (inner, 2 * inner))
        self.o = nn.Linear(inner, spec.width, bias=False)
        self.q_scale, self.k_scale = (nn.Parameter(torch.ones(spec.head_dim)) for _ in range(2))
        if num_null:
            self.context_norm = nn.LayerNorm(spec.width, bias=False)
            self.null = nn.Parameter(torch.randn(spec.heads, 2 * num_null, spec.head_dim))
        self.num_null = num_null

    def forward(
        self, x: Float[Tensor, "g n d"], context: Float[Tensor, "g m d"], bias: Float[Tensor, "heads n m"] | None
    ) -> Float[Tensor, "g n d"]:
        read = self.context_norm(context) if self.num_null else context
        q = rearrange(self.q(self.norm(x)), "g n (h d) -> g h n d", h=self.heads)
        k, v = rearrange(self.kv(read), "g m (two h d) -> two g h m d", two=2, h=self.heads)
        if self.num_null:  # laid out (number, key or value)
            more = repeat(self.null, "h (r two) d -> two g h r d", two=2, g=len(x))
            k, v = torch.cat([more[0], k], dim=2), torch.cat([more[1], v], dim=2)
        q, k = functional.normalize(q, dim=-1) * self.q_scale, functional.normalize(k, dim=-1) * self.k_scale
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=LOGIT_SCALE)
        return self.o(rearrange(attended, "g h n d -> g n (h d)"))
