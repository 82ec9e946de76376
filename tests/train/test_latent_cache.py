"""Kept latents train as encoding at each step does; their file is named by all that decides it, never half there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import episodes, write
from torch import Tensor

from crossroads.build import build
from crossroads.codecs.latents import LatentCodec
from crossroads.codecs.video_autoencoder import NanoAutoencoderNet
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.pilot.plan import fit
from crossroads.pilot.single import Training, train_recipe
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.train import latent_cache
from crossroads.train.latent_cache import encoded_windows


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    return LeRobotDataset.open(write(tmp_path_factory.mktemp("recording") / "toy", episodes(3)))


def made(dataset: LeRobotDataset, name: str = "fast_wam", seed: int = 0) -> tuple[StreamPolicy, Windows]:
    sized = fit(recipe(name), dataset.space, dataset.cameras)
    policy = build(sized, dataset.space, seed=seed)
    policy.enter(sized.phase("full"))
    return policy, Windows(dataset, sized.window, episodes=(0, 1, 2), cache=None)


def video(policy: StreamPolicy) -> LatentCodec:
    codec = policy.net.own_codec("video")
    assert isinstance(codec, LatentCodec)
    return codec


def spread(policy: StreamPolicy) -> torch.Tensor:
    """What the autoencoder divides its latents by."""
    autoencoder = video(policy).autoencoder
    assert isinstance(autoencoder, NanoAutoencoderNet)
    return autoencoder.std


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NanoAutoencoderNet, "encode", lambda *_: pytest.fail("encoded again"))


def test_training_on_kept_latents_is_training_on_the_pictures_and_encodes_nothing(
    dataset: LeRobotDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, windows = made(dataset)
    rows = np.array([7, 1, 0, 12, 3])
    kept = encoded_windows(policy, windows, rows, progress=False)
    asked, generators = [12, 0, 7, 7], [torch.Generator().manual_seed(1) for _ in range(2)]
    codec, pictures = video(policy), windows.batch(asked)
    live = policy.loss(pictures, generator=generators[0])
    seen, owed = codec.observe(pictures.obs), codec.target(pictures)
    forbid(monkeypatch)
    for found, expected in ((codec.observe(kept.batch(asked).obs), seen), (codec.target(kept.batch(asked)), owed)):
        torch.testing.assert_close(found.values, expected.values, rtol=1e-3, atol=1e-4)
        assert torch.equal(found.valid, expected.valid)
    found = policy.loss(kept.batch(asked), generator=generators[1])
    for name, loss in live.terms.items():
        torch.testing.assert_close(found.terms[name], loss, rtol=5e-3, atol=1e-4)
    with pytest.raises(IndexError, match="windows that were encoded"):
        kept.batch([0, 2])
    encoded_windows(made(dataset)[0], windows, rows[::-1], progress=False)  # another process, the same windows


def test_other_weights_windows_or_preprocessing_have_other_files(dataset: LeRobotDataset, own_cache: Path) -> None:
    policy, windows = made(dataset)

    def num_files(given: StreamPolicy, rows: list[int]) -> int:
        encoded_windows(given, windows, np.array(rows), progress=False)
        return len(list((own_cache / "latents").rglob("*.f16")))

    assert num_files(policy, [0, 1]) == 1
    assert num_files(policy, [0, 1]) == 1
    assert num_files(policy, [0, 2]) == 2
    assert num_files(made(dataset, seed=1)[0], [0, 1]) == 3
    with torch.no_grad():
        spread(policy).mul_(2)
    assert num_files(policy, [0, 1]) == 4
    spec = video(policy).spec
    others = [replace(spec, cameras=("wrist",)), replace(spec, image_hw=(32, 32)), replace(spec, columns=2)]
    others.append(replace(spec, future_s=tuple(2 * time for time in spec.future_s)))
    assert len({one.clip for one in (spec, *others)}) == 5
    assert replace(spec, patch=2, marked=True, beside=3).clip == spec.clip  # what comes after the latents


def test_an_interrupted_encoding_is_not_readable_and_goes_on_where_it_was_noted(
    dataset: LeRobotDataset, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_cache, "_SAVE_EVERY_BATCHES", 1)
    monkeypatch.setattr(latent_cache, "_BATCH", 2)
    policy, windows = made(dataset)
    rows, whole, seen = np.arange(9), LatentCodec.encode, []

    def encode(self: LatentCodec, now: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> Tensor:
        if len(seen) == 3:
            seen.append(-1)
            raise KeyboardInterrupt
        seen.append(len(now["front"]))
        return whole(self, now, later)

    monkeypatch.setattr(LatentCodec, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        encoded_windows(policy, windows, rows, progress=False)
    assert not list(own_cache.rglob("*.f16"))
    kept = encoded_windows(policy, windows, rows, progress=False)
    assert seen == [2, 2, 2, -1, 2, 1]
    assert not list(own_cache.rglob("*.done"))
    monkeypatch.undo()
    batch = windows.batch(rows)
    live = video(policy).encode(batch.obs.images, batch.future)
    torch.testing.assert_close(kept.batch(rows).obs.encoded[video(policy).spec.clip], live.half())


def test_a_full_disk_is_told_before_anything_is_encoded(
    full_disk: None, dataset: LeRobotDataset, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch)
    with pytest.raises(InputError, match=r"\.part: expected .* GB free.*set CROSSROADS_CACHE"):
        encoded_windows(*made(dataset), np.array([0]), progress=False)
    assert {path.suffix for path in (own_cache / "latents").glob("*/*")} == {".lock", ".used"}


def test_latents_beyond_half_precision_are_refused(dataset: LeRobotDataset, own_cache: Path) -> None:
    policy, windows = made(dataset)
    with torch.no_grad():
        spread(policy).fill_(1e-8)
    with pytest.raises(InputError, match="about unit scale"):
        encoded_windows(policy, windows, np.array([0]), progress=False)
    assert not list(own_cache.rglob("*.f16"))


def test_a_policy_without_video_latents_cannot_keep_any(dataset: LeRobotDataset) -> None:
    policy, windows = made(dataset, "pi0")
    with pytest.raises(InputError, match="latents of pi0, phase full: expected a phase that reads video latents"):
        encoded_windows(policy, windows, np.array([0]), progress=False)


def test_a_run_may_keep_its_latents_and_learns_the_same(dataset: LeRobotDataset, tmp_path: Path) -> None:
    settings = Training(steps=2, batch_size=4, phase="full")
    live = train_recipe("fast_wam", dataset.path, tmp_path / "live", settings, progress=False)
    kept = train_recipe(
        "fast_wam", dataset.path, tmp_path / "kept", replace(settings, keep_latents=True), progress=False
    )
    for one, other in zip(live.curve, kept.curve, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-2)
    with pytest.raises(InputError, match="keep_latents: expected a phase that trains on video, got 'head'"):
        train_recipe("fast_wam", dataset.path, tmp_path / "no", Training(keep_latents=True), progress=False)
