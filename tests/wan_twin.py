"""diffusers' Wan autoencoders beside ours: the two published forms, at published size or tiny with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from crossroads.codecs.wan_autoencoder import WanAutoencoder

TINY: dict[str, Any] = {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 4, "num_res_blocks": 1}
_LAYERS: dict[str, Any] = {"dim_mult": [1, 2, 4, 4], "attn_scales": [], "temperal_downsample": [False, True, True]}
_WAN_21: dict[str, Any] = {"base_dim": 96, "z_dim": 16, "num_res_blocks": 2}
_WAN_22: dict[str, Any] = {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "num_res_blocks": 2}
_FOLDED: dict[str, Any] = {"in_channels": 12, "out_channels": 12, "patch_size": 2, "is_residual": True}


@dataclass(frozen=True, kw_only=True)
class WanForm:
    """One published form: its channels and pixels per latent, and diffusers' arguments for it."""

    name: str
    channels: int
    space_factor: int
    sizes: dict[str, Any]
    kind: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    def published(self, source: str) -> WanAutoencoder:
        return WanAutoencoder(source=source, channels=self.channels, space_factor=self.space_factor)

    def net(self, **changes: Any) -> Any:
        """diffusers' class with random weights; skips loudly without diffusers."""
        diffusers = pytest.importorskip("diffusers", reason="needs crossroads[backbones]")
        num = {**self.sizes, **changes}["z_dim"]
        statistics = {"latents_mean": [0.1 * i for i in range(num)], "latents_std": [1.0 + i for i in range(num)]}
        factors = {"scale_factor_temporal": 4, "scale_factor_spatial": self.space_factor}
        torch.manual_seed(0)
        given = {**self.sizes, **_LAYERS, **self.kind, **factors, **statistics, **changes}
        return diffusers.AutoencoderKLWan(**given)


FORMS = (
    WanForm(name="wan_2_1", channels=16, space_factor=8, sizes=_WAN_21, kind={}),
    WanForm(name="wan_2_2", channels=48, space_factor=16, sizes=_WAN_22, kind=_FOLDED),
)


def tiny_wan(form: WanForm, folder: Path) -> tuple[WanAutoencoder, Any]:
    """A tiny net of this form saved as a checkpoint: its description for us, and diffusers' own."""
    theirs = form.net(**TINY).eval()
    theirs.save_pretrained(folder / "vae")
    return WanAutoencoder(source=str(folder), channels=4, space_factor=form.space_factor), theirs
