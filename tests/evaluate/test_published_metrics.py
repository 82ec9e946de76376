"""Frechet distances follow their formula, and a distance takes a published name only with the published weights."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crossroads.errors import InputError
from crossroads.evaluate import published_metrics
from crossroads.evaluate.published_metrics import frechet, frechet_distance, lpips_distance


def test_gaussians_that_differ_in_mean_and_spread_have_the_known_distance() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200_000, 3))
    b = rng.normal(size=(200_000, 3)) * np.array([1.0, 2.0, 3.0]) + np.array([1.0, 0.0, -2.0])
    # For diagonal covariances: |mean difference|^2 + sum of (spread difference)^2.
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 0 + 1 + 4, rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


# The published files are TorchScript, which torch has begun to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Means(nn.Module):
    """Mean colours, in the form of a published detector or not."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = True) -> Tensor:
        if x.dim() == 5:
            assert rescale
            assert resize
            x = x.flatten(2, 3)
        return x.mean(dim=(2, 3))


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    return tmp_path / "means.pt"


def videos(frames: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    real, imagined = (torch.randint(256, (6, frames, 8, 8, 3), dtype=torch.uint8, generator=draw) for _ in "ab")
    return real, imagined, real[:, 0]


def test_other_features_are_named_after_their_file_and_never_fid_or_fvd(scripted: Path) -> None:
    real, imagined, last = videos(4)
    found = frechet(real, imagined, last, scripted)
    assert found.name.startswith("Frechet distance on means.pt (")
    assert found.num == 24
    assert not found.low_rank
    rows = [video.float().mean(dim=(2, 3)).flatten(0, 1).numpy() for video in (real, imagined)]
    assert found.value == pytest.approx(frechet_distance(*rows), rel=1e-3)
    assert frechet(real, real, last, scripted).value == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("name", "of", "num"), [("FID", "frames", 54), ("FVD", "clips", 6)])
def test_the_published_file_gives_the_published_name(
    scripted: Path, monkeypatch: pytest.MonkeyPatch, name: str, of: str, num: int
) -> None:
    mark = hashlib.sha256(scripted.read_bytes()).hexdigest()
    monkeypatch.setitem(published_metrics.PUBLISHED, mark, (name, of))
    found = frechet(*videos(9), scripted)
    assert (found.name, found.num) == (name, num)


def test_fvd_refuses_clips_that_its_network_cannot_take(scripted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = hashlib.sha256(scripted.read_bytes()).hexdigest()
    monkeypatch.setitem(published_metrics.PUBLISHED, mark, ("FVD", "clips"))
    with pytest.raises(InputError, match=r"at least 10 frames.*got 5"):
        frechet(*videos(4), scripted)


def test_a_missing_file_and_one_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        frechet(*videos(4), tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a network")
    with pytest.raises(InputError, match=r"text\.pt"):
        frechet(*videos(4), tmp_path / "text.pt")


def test_lpips_sees_every_frame_between_minus_one_and_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(nn.Module):
        def __init__(self, net: str, version: str, verbose: bool) -> None:
            super().__init__()
            assert (net, version) == ("alex", "0.1")

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            assert a.shape[1:] == (3, 8, 8)
            assert a.min() >= -1
            assert a.max() <= 1
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Network))
    real, imagined, _ = videos(7)
    found = lpips_distance(real, imagined, "alex")
    assert (found.name, found.num) == ("LPIPS (alex)", 42)
    assert found.value == pytest.approx(float((real.float() - imagined.float()).abs().mean() / 127.5), rel=1e-4)
