"""InternVL's vision transformer against transformers' own, in its kinds, and its token order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from einops import rearrange
from transformers import InternVLVisionConfig, InternVLVisionModel

from crossroads.codecs.intern_pictures import InternPictureCodec, InternPictures
from crossroads.codecs.resampled import MEAN, STD

SPEC = InternPictures(
    cameras=("front", "wrist"),
    image_hw=(16, 16),
    patch=4,
    depth=2,
    vision_width=12,
    vision_mlp=20,
    heads=3,
    places=4,
)
KINDS = (SPEC, replace(SPEC, rms=True, biased=False, normed=True), replace(SPEC, image_hw=(24, 24)))
WIDTH = 10


def moved(codec: InternPictureCodec) -> InternPictureCodec:
    """The same with every weight somewhere else than where it starts."""
    for weight in codec.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return codec.eval()


def published(codec: InternPictureCodec) -> InternVLVisionModel:
    """transformers' network with the weights of ours."""
    spec = codec.spec
    side = spec.places * spec.patch
    config = InternVLVisionConfig(
        hidden_size=spec.vision_width,
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.heads,
        intermediate_size=spec.vision_mlp,
        attention_bias=spec.biased,
        use_qk_norm=spec.normed,
        norm_type="rms_norm" if spec.rms else "layer_norm",
        image_size=(side, side),
        patch_size=(spec.patch, spec.patch),
    )
    ours, theirs = codec.state_dict(), {}
    for part in ("weight", "bias"):
        theirs[f"embeddings.patch_embeddings.projection.{part}"] = ours[f"enter.{part}"]
    theirs["embeddings.cls_token"] = ours["class_token"][None]
    theirs["embeddings.position_embeddings"] = ours["position"][None]
    same = {"norm_attention": "layernorm_before", "norm_mlp": "layernorm_after", "up": "mlp.fc1", "down": "mlp.fc2"}
    same |= {"out": "attention.projection_layer", "norm_q": "attention.q_norm", "norm_k": "attention.k_norm"}
    for layer in range(spec.depth):
        for name, tensor in ours.items():
            here = f"layers.{layer}."
            if not name.startswith(here):
                continue
            part, _, kind = name.removeprefix(here).partition(".")
            there = f"encoder.layer.{layer}"
            if part == "scales":
                theirs |= {f"{there}.lambda_{half + 1}": tensor[half] for half in (0, 1)}
            elif part == "qkv":
                theirs |= {
                    f"{there}.attention.{one}_proj.{kind}": rows
                    for one, rows in zip("qkv", tensor.chunk(3), strict=True)
                }
            else:
                theirs[f"{there}.{same[part]}.{kind}"] = tensor
    model = InternVLVisionModel(config).eval()
    model.load_state_dict(theirs)
    return model


@pytest.mark.parametrize("spec", KINDS)
@torch.no_grad()
def test_states_of_patches_are_those_of_transformers(spec: InternPictures) -> None:
    codec = moved(InternPictureCodec(spec, WIDTH))
    latent = torch.randint(0, 256, (2, *codec.latent_shape("now")), dtype=torch.uint8)
    ours = codec.embed(latent, torch.zeros(2, 1))
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (MEAN, STD))
    pixels = (rearrange(latent, "b v h w c -> (b v) c h w") / 255 - mean) / std
    states = published(codec)(pixels).last_hidden_state[:, 1:]
    theirs = rearrange(codec.projected(states), "(b v) n w -> b (v n) w", v=2)
    assert ours.shape == (2, spec.num_tokens("now"), WIDTH)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_token_joins_the_square_of_patches_at_its_place() -> None:
    codec = moved(InternPictureCodec(SPEC, WIDTH))
    rows, columns = SPEC.patches_hw
    states = torch.randn(1, rows * columns, SPEC.vision_width)
    before, grid = codec.projected(states)[0], codec.grid("now", SPEC.tokens_per_camera)
    states[0, 2 * columns + 1] += 1.0  # the third row's second patch: second row, first column of tokens
    changed = (codec.projected(states)[0] - before).abs().amax(dim=1) > 1e-6
    assert grid[changed].tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("spec", KINDS)
def test_its_weights_are_counted(spec: InternPictures) -> None:
    counted = sum(weight.numel() for weight in InternPictureCodec(spec, WIDTH).parameters())
    assert spec.num_parameters(WIDTH) == counted
