"""Frames one by one as latents: nothing is lost by folding, and the present frame enters beside every other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crossroads.codecs.frame_latents import Folded, FrameLatentCodec, FrameLatents
from crossroads.errors import InputError
from crossroads.types import Batch, Observation

SPEC = FrameLatents(cameras=("a", "b"), image_hw=(8, 12), future_s=(0.1, 0.2, 0.3), autoencoder=Folded(fold=4))


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)

    def pictures(*shape: int) -> dict[str, torch.Tensor]:
        return {
            name: torch.randint(0, 256, (2, *shape, 8, 12, 3), generator=generator, dtype=torch.uint8)
            for name in SPEC.cameras
        }

    obs = Observation(
        images=pictures(), state=torch.zeros(2, 0), text=("", ""), robot=("arm",) * 2, time_s=torch.zeros(2)
    )
    return Batch(
        obs=obs,
        actions=torch.zeros(2, 1, 1),
        actions_valid=torch.ones(2, 1, dtype=torch.bool),
        future=pictures(3),
        future_valid=torch.tensor([[True, True, True], [True, False, False]]),
        answer=("", ""),
        weight=torch.ones(2),
        **Batch.unforeseen(2),
    )


def test_folded_frames_come_back_exactly() -> None:
    given, codec = batch(), FrameLatentCodec(SPEC, 96)
    latent = codec.target(given)
    assert latent.values.shape == (2, *codec.latent_shape("noised"))
    for camera, frames in codec.decode(latent.values).items():
        assert torch.equal(frames, given.future[camera])


def test_every_frame_has_the_present_one_beside_it_and_is_valid_as_the_frame_is() -> None:
    given, codec = batch(), FrameLatentCodec(SPEC, 96)
    latent, now = codec.target(given), codec.observe(given.obs).values
    assert latent.beside is not None
    clips = latent.beside.unflatten(1, (2, 3, -1))
    per_camera = now.unflatten(1, (2, 1, -1)).expand_as(clips)
    assert torch.equal(clips, per_camera)
    valid = latent.valid.unflatten(1, (2, 3, -1))
    assert torch.equal(valid.all(dim=-1), given.future_valid[:, None].expand(-1, 2, -1))
    assert torch.equal(valid.any(dim=-1), valid.all(dim=-1))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 4 pixels"):
        replace(SPEC, image_hw=(9, 12))
    with pytest.raises(InputError, match="takes 96 channels"):
        FrameLatentCodec(SPEC, 48)
