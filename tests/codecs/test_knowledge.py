"""What frozen encoders say of a frame: oriented gradients, and a tiny DINOv2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crossroads.codecs.knowledge import EncoderStates, FutureFeatureCodec, Orientations, oriented
from crossroads.objectives import Regress
from crossroads.recipes import dreamvla_sizes
from crossroads.streams import Corrupted

SEMANTICS = dreamvla_sizes.NANO.knowledge[1]


def test_edges_count_for_their_direction_and_an_even_picture_has_none() -> None:
    ramp, spec = torch.linspace(0, 1, 8).expand(8, 8), Orientations(cell=4, bins=4)
    for picture, most in ((ramp, 0), (ramp.T, 2), (ramp + 2 * ramp.T, 1), (2 * ramp.T - ramp, 2)):
        found = oriented(picture.expand(1, 3, 8, 8), spec)
        assert found.shape == (1, spec.num((8, 8)), 4)
        assert found.sum(dim=(0, 1)).argmax().item() == most
    assert not oriented(torch.ones(1, 3, 8, 8), spec).any()


def test_the_weighed_distance_of_rows_is_what_their_cosine_lacks() -> None:
    torch.manual_seed(0)
    size = SEMANTICS.codec.decoder.size
    rows, told = torch.randn(2, 5, size), torch.randn(2, 5, size)
    unit = [torch.nn.functional.normalize(part, dim=-1).flatten(1)[:, None] for part in (rows, told)]
    owed = Corrupted(latent=unit[1], level=torch.zeros(2, 1), target=unit[1])
    loss = SEMANTICS.weight * Regress(error="squared").loss(unit[0], owed, torch.ones(2, 1, dtype=torch.bool))
    lacking = 1 - torch.nn.functional.cosine_similarity(rows, told, dim=-1)
    torch.testing.assert_close(loss, 0.01 * lacking.mean(dim=1))


@torch.no_grad()
def test_states_of_a_published_encoder_are_rows_of_length_one(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs crossroads[backbones]")
    torch.manual_seed(0)
    made = transformers.Dinov2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=8, patch_size=4
    )
    theirs = transformers.Dinov2Model(made).eval()
    theirs.save_pretrained(tmp_path)
    spec = replace(SEMANTICS.codec, told_by=EncoderStates(source=str(tmp_path), size=8, patch=4, square=8))  # pyright: ignore
    codec, pictures = FutureFeatureCodec(spec, 16), torch.rand(1, 2, 3, 8, 8)
    rows = codec.rows(pictures)
    assert rows.shape == (1, 2, spec.decoder.num_masks, 8)
    mean, std = (torch.tensor(part)[:, None, None] for part in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    states = theirs((pictures[0] - mean) / std).last_hidden_state[:, 1:]
    torch.testing.assert_close(rows[0], torch.nn.functional.normalize(states, dim=-1), atol=1e-5, rtol=0)
