"""Video distances that are defined by published weights: LPIPS, FID and FVD, each only where those weights are at hand.

A distance on other features is computed as well, and is named after its file, never LPIPS, FID or FVD. Sources: Zhang
et al. 2018 (arXiv 1801.03924, package ``lpips``); Heusel et al. 2017 (arXiv 1706.08500); Unterthiner et al. 2018 (arXiv
1812.01717). The files are those of StyleGAN2-ADA (inception-2015-12-05.pt) and StyleGAN-V (i3d_torchscript.pt).
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from scipy import linalg
from torch import Tensor

from crossroads.errors import InputError

Of = Literal["frames", "clips"]
PUBLISHED: dict[str, tuple[str, Of]] = {
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": ("FID", "frames"),
    "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2": ("FVD", "clips"),
}
"""SHA-256 of a TorchScript file: the distance that it defines, and whether it looks at single frames or whole clips."""
CLIP_FRAMES = 10
"""The fewest frames that FVD's network takes: four halvings of time."""
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Distance:
    """One figure of imagined against real video."""

    name: str
    """LPIPS, FID or FVD, or what the features were, where they are not the published ones."""
    value: float
    num: int
    """Pictures or clips on each side. Frechet distances of few are too high: compare only equal numbers."""
    low_rank: bool
    """Fewer of them than features: a Frechet distance then ranks no better than by chance."""


def lpips_distance(
    real: UInt8[Tensor, "b f h w 3"], imagined: UInt8[Tensor, "b f h w 3"], net: Literal["alex", "vgg"]
) -> Distance:
    """Mean LPIPS 0.1 over all frames, by the authors' package; it fetches its ImageNet network on first use."""
    import lpips  # pyright: ignore[reportMissingImports]

    network = lpips.LPIPS(net=net, version="0.1", verbose=False).eval()
    pairs = [rearrange(video, "b f h w c -> (b f) c h w").float() / 127.5 - 1 for video in (real, imagined)]
    with torch.no_grad():
        found = [network(a, b).flatten() for a, b in zip(*(pair.split(BATCH) for pair in pairs), strict=True)]
    values = torch.cat(found)
    return Distance(name=f"LPIPS ({net})", value=float(values.mean()), num=len(values), low_rank=False)


def frechet(
    real: UInt8[Tensor, "b f h w 3"],
    imagined: UInt8[Tensor, "b f h w 3"],
    last: UInt8[Tensor, "b h w 3"],
    features: Path,
) -> Distance:
    """Frechet distance between Gaussians of the features of real and imagined video, by a TorchScript file.

    Known files give FID (frames) or FVD (clips that begin with the ``last`` seen frame); any other takes float frames
    (n 3 h w) in 0..255 to features (n d).

    Raises:
        InputError: no such file, one that is no TorchScript, clips too short for FVD, fewer than two of them.
    """
    mark = _hash(features)
    name, of = PUBLISHED.get(mark, (f"Frechet distance on {features.name} ({mark[:8]})", "frames"))
    network = _network(features)
    if of == "clips":
        videos = [torch.cat([last[:, None], video], dim=1) for video in (real, imagined)]
        if videos[0].shape[1] < CLIP_FRAMES:
            raise InputError(
                where=f"{name}",
                expected=f"clips of at least {CLIP_FRAMES} frames, the seen one among them",
                got=f"{videos[0].shape[1]}",
                do="Use FID for a recipe that imagines so few frames.",
            )
        inputs = [rearrange(video, "b f h w c -> b c f h w") for video in videos]
        ask: Callable[[Tensor], Any] = lambda x: network(x, rescale=True, resize=True, return_features=True)  # noqa: E731
    else:
        inputs = [rearrange(video, "b f h w c -> (b f) c h w") for video in (real, imagined)]
        ask = (lambda x: network(x, return_features=True)) if name == "FID" else network
    with torch.no_grad():
        a, b = (torch.cat([ask(part.float()) for part in x.split(BATCH)]).double().numpy() for x in inputs)
    if a.ndim != 2 or len(a) < 2:
        raise InputError(
            where=name,
            expected="features (n d) of two or more",
            got=f"shape {a.shape}",
            do="Give more --windows, or a file whose output is one row per input.",
        )
    return Distance(name=name, value=frechet_distance(a, b), num=len(a), low_rank=len(a) <= a.shape[1])


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """|mean a - mean b|^2 + trace(A + B - 2 (A B)^(1/2)) of the two covariances."""
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = linalg.sqrtm(first @ second)
    # Rounding can leave a negative eigenvalue of the product, and with it an imaginary part of the root.
    trace = float(np.trace(first) + np.trace(second) - 2 * np.trace(np.real(root)))
    return max(0.0, float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()) + trace)


def _hash(path: Path) -> str:
    if not path.is_file():
        raise InputError(
            where=str(path),
            expected="a TorchScript file",
            got="no file",
            do="Download inception-2015-12-05.pt (FID) or i3d_torchscript.pt (FVD) and give its path.",
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _network(path: Path) -> torch.jit.ScriptModule:
    try:
        with warnings.catch_warnings():  # TorchScript is deprecated, and it is the form in which these are published
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(os.fspath(path), map_location="cpu").eval()
    except RuntimeError as problem:
        raise InputError(
            where=str(path), expected="a TorchScript file", got=str(problem).splitlines()[0][:80], do="Fetch it again."
        ) from problem
