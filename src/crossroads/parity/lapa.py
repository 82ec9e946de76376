"""LAPA's quantiser as recorded from its published class (arXiv 2410.11758, MIT): two frames to codes and back."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from crossroads.codecs.lapa_quantiser import LapaQuantiser, LapaQuantiserNet
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import load_module
from crossroads.recipes.lapa_names import quantiser_names, unread


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    net = prepare(case)
    frames = rearrange(case.inputs["video"], "b c t h w -> b t c h w")
    return Produced(outputs={**found(net, frames), **trained(net, frames, case.inputs["nsvq_random"])})


def spec_of(case: GoldenCase) -> LapaQuantiser:
    """Our value with the numbers of a recorded case."""
    made = case.meta["constructor"]
    side = made["image_size"]
    return LapaQuantiser(
        image_hw=tuple(side) if isinstance(side, list) else (side, side),  # pyright: ignore[reportArgumentType]
        patch=made["patch_size"],
        width=made["dim"],
        code_size=made["quant_dim"],
        codebook=made["codebook_size"],
        num_codes=made["code_seq_len"],
        depth=made["spatial_depth"],
        time_depth=made["temporal_depth"],
        heads=made["heads"],
        head_dim=made["dim_head"],
    )


def prepare(case: GoldenCase) -> LapaQuantiserNet:
    """Our quantiser with the recorded weights."""
    spec = spec_of(case)
    net = LapaQuantiserNet(spec).eval()
    load_module(net, quantiser_names(spec), case.weights, unused=unread(spec))
    return net


@torch.no_grad()
def found(net: LapaQuantiserNet, frames: Tensor) -> dict[str, Tensor]:
    """What it finds without draws, and the states on the way."""
    patches = net.patches(frames)
    encoded = net.encoded(patches)
    first, last = (net.squeezed(encoded[:, index]) for index in range(2))
    latent, codes = net.latent(frames)
    rows, columns = net.spec.grid_hw

    def grid(x: Tensor) -> Tensor:
        return rearrange(x, "b t (h w) d -> b t h w d", h=rows, w=columns)

    return {
        "patch_tokens": grid(patches),
        "encoded_first": grid(encoded[:, :1]),
        "encoded_last": grid(encoded[:, 1:]),
        "vq_first": first.flatten(0, 1),
        "vq_last": last.flatten(0, 1),
        "vq_difference": (last - first).flatten(0, 1),
        "infer.codes": codes[:, 0],
        "infer.recon": net.decoded(patches[:, 0], net.context(latent[:, 0]))[:, 0],
        "rel_pos_bias": net.places(),
    }


@torch.no_grad()
def trained(net: LapaQuantiserNet, frames: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """The training step from saved draws."""
    drawn = rearrange(noise, "(b n) c -> b 1 n c", b=len(frames))
    motion = net(frames, drawn)
    share = motion.codes.flatten().bincount(minlength=net.spec.codebook) / motion.codes.numel()
    return {
        "train.loss": ((motion.next - frames[:, 1:]) ** 2).mean()[None],
        "train.recon": motion.next[:, 0],
        "train.codes": motion.codes[:, 0],
        "train.quantised_projected": net.context(motion.latent[:, 0]),
        "train.perplexity": (-(share * (share + 1e-12).log()).sum()).exp()[None],
    }
