"""How close imagined frames are to what the camera then showed: PSNR, SSIM, and PSNR where something moves.

Always beside "repeat the last seen frame", because a still background alone earns a high score, and beside an even
grey, because where something moves a dull guess beats a sharp wrong one. These numbers say how a prediction looks, not
whether a robot can act on it. Sources: Wang et al. 2004 (IEEE TIP 13:600) for SSIM, with its 11 x 11
Gaussian window of 1.5 px and constants 0.01 and 0.03. LPIPS, FID and FVD are in ``published_metrics``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from crossroads.errors import InputError

CEILING_DB = 99.0
"""PSNR of identical pictures; the formula gives infinity."""
MID_GREY = 127.5


def psnr(squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error on the 0..255 scale."""
    return CEILING_DB if squared_error <= 0 else min(CEILING_DB, 10 * math.log10(255.0**2 / squared_error))


def ssim(real: UInt8[Tensor, "n h w 3"], other: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, " n"]:
    """Structural similarity per picture, mean over colours and over all places where the window fits."""
    height, width = real.shape[1:3]
    if min(height, width) < 11:
        raise InputError(
            where="ssim",
            expected="pictures of at least 11 x 11 pixels",
            got=f"{height} x {width}",
            do="Compare at the size the policy sees, 11 pixels or more.",
        )
    x, y = (rearrange(p.to(torch.float64), "n h w c -> (n c) 1 h w") for p in (real, other))
    place = torch.arange(11, dtype=torch.float64) - 5
    bell = torch.exp(-(place**2) / (2 * 1.5**2))
    kernel = torch.outer(bell, bell)[None, None] / bell.sum() ** 2
    blur = lambda p: torch.nn.functional.conv2d(p, kernel)  # noqa: E731 - one local verb, used five times below
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return rearrange(top / bottom, "(n c) 1 h w -> n (c h w)", c=3).mean(dim=1).to(torch.float32)


def moving_mask(
    real: UInt8[Tensor, "b f h w 3"], last: UInt8[Tensor, "b h w 3"], *, threshold: int = 12
) -> Bool[Tensor, "b f h w"]:
    """Pixels of the real future whose colour left the last seen frame by more than ``threshold`` of 255."""
    change = (real.to(torch.int16) - last[:, None].to(torch.int16)).abs()
    return change.amax(dim=-1) > threshold


@dataclass(frozen=True, kw_only=True)
class VideoScore:
    """Scores of one horizon, pooled over clips; ``moving`` figures are None when nothing moves in any clip."""

    time_s: float
    psnr_db: float
    psnr_repeat_db: float
    moving_psnr_db: float | None
    moving_psnr_repeat_db: float | None
    moving_psnr_grey_db: float | None
    """Of an even mid-grey picture: what a guess earns that says nothing."""
    ssim: float
    ssim_repeat: float
    moving_share: float
    num_clips: int

    @property
    def moving_gain_db(self) -> float | None:
        """How much better than repeating the last frame, where something moves."""
        if self.moving_psnr_db is None or self.moving_psnr_repeat_db is None:
            return None
        return self.moving_psnr_db - self.moving_psnr_repeat_db


def compare(
    real: UInt8[Tensor, "b f h w 3"],
    imagined: UInt8[Tensor, "b f h w 3"],
    last: UInt8[Tensor, "b h w 3"],
    *,
    times_s: tuple[float, ...],
    threshold: int = 12,
) -> tuple[VideoScore, ...]:
    """One score per horizon. PSNR is that of the error pooled over clips, so that still clips cannot carry the mean."""
    if len(times_s) != real.shape[1]:
        raise InputError(
            where="compare",
            expected=f"{real.shape[1]} times, one per frame",
            got=f"{len(times_s)}",
            do="Pass the future_s of the window that the frames came from.",
        )
    mask = moving_mask(real, last, threshold=threshold)
    scores = []
    for index, time_s in enumerate(times_s):
        truth, moves = real[:, index], mask[:, index]
        model_error, repeat_error, grey_error = (
            (p.to(torch.float64) - truth).square().mean(-1) for p in (imagined[:, index], last, torch.tensor(MID_GREY))
        )
        moving = bool(moves.any())
        scores.append(
            VideoScore(
                time_s=time_s,
                psnr_db=psnr(model_error.mean().item()),
                psnr_repeat_db=psnr(repeat_error.mean().item()),
                moving_psnr_db=psnr(model_error[moves].mean().item()) if moving else None,
                moving_psnr_repeat_db=psnr(repeat_error[moves].mean().item()) if moving else None,
                moving_psnr_grey_db=psnr(grey_error[moves].mean().item()) if moving else None,
                ssim=ssim(truth, imagined[:, index]).mean().item(),
                ssim_repeat=ssim(truth, last).mean().item(),
                moving_share=moves.to(torch.float64).mean().item(),
                num_clips=len(real),
            )
        )
    return tuple(scores)
