"""Features of frames: each frame on its own, normed, from pixels or from a V-JEPA 2 that transformers wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crossroads.codecs.frame_features import FrameFeatureCodec, FrameFeatures, at_steps
from crossroads.errors import InputError

PIXELS = FrameFeatures(cameras=("front",), image_hw=(8, 12), patch=4, future_s=(0.5, 1.0), size=48)


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def published(folder: Path) -> FrameFeatures:
    from transformers import VJEPA2Config, VJEPA2Model

    torch.manual_seed(0)
    config = VJEPA2Config(
        patch_size=8,
        crop_size=16,
        frames_per_clip=2,
        hidden_size=12,
        num_attention_heads=2,
        num_hidden_layers=1,
        mlp_ratio=2.0,
        pred_hidden_size=12,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    VJEPA2Model(config).save_pretrained(folder)
    return FrameFeatures(
        cameras=("front",), image_hw=(16, 16), patch=8, future_s=(0.5, 1.0), size=12, source=str(folder)
    )


@pytest.mark.parametrize("encoded", [False, True])
def test_features_of_a_frame_know_no_other_frame_and_are_normed(encoded: bool, tmp_path: Path) -> None:
    spec = published(tmp_path) if encoded else PIXELS
    codec = FrameFeatureCodec(spec, width=6)
    frames = pictures(2, 3, *spec.image_hw, 3)
    found = codec.features(frames)
    assert found.shape == (2, 3, spec.per_frame, spec.size)
    torch.testing.assert_close(found.mean(dim=-1), torch.zeros(found.shape[:3]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(dim=-1, unbiased=False), torch.ones(found.shape[:3]), atol=1e-2, rtol=0)
    frames[:, 1] = 255 - frames[:, 1]
    moved = (codec.features(frames) - found).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert moved.tolist() == [False, True, False]


def test_steps_have_a_time_and_no_place_in_a_picture() -> None:
    grid = at_steps(2, 3)
    assert grid[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert bool(grid[:, 1:].isnan().all())


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"FrameFeatures: expected one camera.*size 47 at patch 4"):
        FrameFeatures(cameras=("front",), image_hw=(8, 12), patch=4, future_s=(0.5,), size=47)
