"""Video scores: known values, order, and a still background that cannot hide a frozen object."""

from __future__ import annotations

import math

import pytest
import torch

from crossroads.errors import InputError
from crossroads.evaluate.video import CEILING_DB, compare, moving_mask, psnr, ssim


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def clip(num_frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square that walks right over a still random background: (last seen frame, real future)."""
    frames = noise(1, 32, 32, 3).expand(num_frames + 1, 32, 32, 3).clone() // 4
    for index in range(num_frames + 1):
        frames[index, 12:18, 4 + 5 * index : 10 + 5 * index] = 250
    return frames[:1], frames[None, 1:]


def test_psnr_has_its_textbook_values() -> None:
    assert psnr(1.0) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(255.0**2) == pytest.approx(0.0)
    assert psnr(0.0) == CEILING_DB


def test_ssim_is_one_for_equal_pictures_symmetric_and_falls_with_noise() -> None:
    a = noise(2, 24, 24, 3)
    softly, hard = (
        (a.float() + s * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))) for s in (10, 80)
    )
    softly, hard = softly.clamp(0, 255).to(torch.uint8), hard.clamp(0, 255).to(torch.uint8)
    assert torch.allclose(ssim(a, a), torch.ones(2))
    assert torch.allclose(ssim(a, hard), ssim(hard, a))
    assert bool((ssim(a, softly) > ssim(a, hard) + 0.1).all())


def test_ssim_of_flat_pictures_is_its_luminance_term() -> None:
    a, b = torch.full((1, 16, 16, 3), 100, dtype=torch.uint8), torch.full((1, 16, 16, 3), 150, dtype=torch.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b).item() == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-5)


def test_repeating_the_last_frame_gains_exactly_nothing() -> None:
    last, real = clip()
    for score in compare(real, last[:, None].expand_as(real), last, times_s=(0.1, 0.2, 0.3)):
        assert score.moving_gain_db == 0.0
        assert score.psnr_db == score.psnr_repeat_db
        assert score.ssim == score.ssim_repeat


def test_where_it_moves_the_background_cannot_flatter() -> None:
    last, real = clip()
    score = compare(real, last[:, None].expand_as(real), last, times_s=(0.1, 0.2, 0.3))[2]
    assert score.psnr_db - (score.moving_psnr_db or 0) > 8
    grey = compare(real, real * 0 + 128, last, times_s=(0.1, 0.2, 0.3))[2]
    assert grey.moving_psnr_db == pytest.approx(grey.moving_psnr_grey_db, abs=0.1)
    perfect = compare(real, real, last, times_s=(0.1, 0.2, 0.3))[2]
    assert perfect.moving_psnr_db == CEILING_DB
    assert perfect.ssim == pytest.approx(1.0)


def test_the_mask_holds_where_the_square_was_and_is() -> None:
    last, real = clip()
    mask = moving_mask(real, last)[0, 2]
    assert bool(mask[12:18, 19:25].all())  # where it arrived
    assert bool(mask[12:18, 4:10].float().mean() > 0.9)  # where it left
    assert not bool(mask[:12].any() or mask[18:].any())


def test_a_still_clip_has_no_moving_score_and_times_must_fit() -> None:
    last, _ = clip()
    still = last[:, None].expand(1, 2, 32, 32, 3)
    score = compare(still, still, last, times_s=(0.1, 0.2))[0]
    assert score.moving_psnr_db is None
    assert score.moving_gain_db is None
    assert math.isfinite(score.psnr_db)
    with pytest.raises(InputError, match="2 times"):
        compare(still, still, last, times_s=(0.1,))
