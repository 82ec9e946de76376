"""Towers start from networks that diffusers wrote, and encoders are those of the libraries: tiny random checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from crossroads.codecs.clip_text import ClipStateCodec, ClipStates
from crossroads.codecs.svd_autoencoder import SvdAutoencoder, SvdAutoencoderNet
from crossroads.errors import InputError
from crossroads.towers.painter import Painter
from crossroads.towers.video_unet import VideoUNet
from crossroads.types import Observation

diffusers = pytest.importorskip("diffusers", reason="needs crossroads[backbones]")
transformers = pytest.importorskip("transformers", reason="needs crossroads[backbones]")

UNET = VideoUNet(
    frames=2,
    latent_hw=(4, 4),
    channels=2,
    beside=2,
    block_channels=(32, 32),
    heads=(2, 2),
    context_width=3,
    text_repeats=2,
    attends=(True, False),
    layers=(1, 1),
    time_id_width=4,
)
PAINTER = Painter(
    latent_hw=(4, 4),
    channels=4,
    block_channels=(8, 8),
    attends=(True, False),
    heads=(1, 1),
    context_width=6,
    steering=(4, 8),
    layers=1,
    groups=4,
)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    given = theirs.state_dict()
    return all(torch.equal(weight, given[name]) for name, weight in ours.state_dict().items())


def test_a_video_unet_starts_from_a_release_of_its_sizes_and_of_no_other(tmp_path: Path) -> None:
    torch.manual_seed(0)
    release = UNET.frame().net
    release.save_pretrained(tmp_path / "unet")
    frame = UNET.frame()
    assert not same(frame.net, release)
    frame.start_from(str(tmp_path))
    assert same(frame.net, release)
    with pytest.raises(InputError, match="missing, unknown or of another shape"):
        replace(UNET, layers=(2, 1)).frame().start_from(str(tmp_path))
    with pytest.raises(InputError, match="its files in 'unet'"):
        frame.start_from(str(tmp_path / "nowhere"))


@torch.no_grad()
def test_a_painter_starts_from_a_unet_alone_or_with_a_controlnet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    release = PAINTER.frame()
    for part in release.controlnet.parameters():
        part.normal_(std=0.1)
    release.unet.save_pretrained(tmp_path / "sd" / "unet")
    release.controlnet.save_pretrained(tmp_path / "control")
    frame = PAINTER.frame()
    frame.start_from(str(tmp_path / "sd"))
    assert same(frame.unet, release.unet)
    assert torch.equal(frame.controlnet.conv_in.weight, release.unet.conv_in.weight)
    assert not any(weight.any() for weight in frame.controlnet.controlnet_mid_block.parameters())  # adds nothing yet
    frame.start_from(str(tmp_path / "sd"), controlnet=str(tmp_path / "control"))
    assert same(frame.controlnet, release.controlnet)


@torch.no_grad()
def test_frames_are_the_mean_of_a_published_posterior_scaled(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made: Any = diffusers.AutoencoderKLTemporalDecoder
    theirs = made(
        down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32), layers_per_block=1, latent_channels=4
    ).eval()
    theirs.save_pretrained(tmp_path / "vae")
    net = SvdAutoencoderNet(SvdAutoencoder(source=str(tmp_path), space_factor=2))
    pixels = drawn(2, 3, 4, 6, 3).clamp(-1, 1)
    latent = net.encode(pixels)
    frame = theirs.encode(pixels[1, 2].permute(2, 0, 1)[None]).latent_dist.mean[0] * theirs.config.scaling_factor
    torch.testing.assert_close(latent[1, 2], frame.permute(1, 2, 0))
    assert net.decode(latent).shape == pixels.shape
    clip = theirs.decode(latent[1].permute(0, 3, 1, 2) / theirs.config.scaling_factor, num_frames=3).sample
    torch.testing.assert_close(net.decode(latent)[1], clip.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_words_are_the_states_of_a_published_clip_padded_to_their_most(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    made = transformers.CLIPTextConfig(**sizes, **ends, vocab_size=7, max_position_embeddings=8)
    theirs = transformers.CLIPTextModel(made).eval()
    theirs.save_pretrained(tmp_path)
    words = ["<start>", "<end>", "<unk>", "push", "press", "the", "cube"]
    pieces = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    pieces.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    kept = transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="<end>", unk_token="<unk>")
    kept.pad_token = "<end>"
    kept.save_pretrained(tmp_path)
    codec = ClipStateCodec(ClipStates(source=str(tmp_path), width=8, max_tokens=6), 8)
    obs = Observation(
        images={},
        state=torch.zeros(2, 0),
        text=("push the cube", "press"),
        robot=("arm",) * 2,
        time_s=torch.zeros(2),
    )
    latent = codec.observe(obs)
    assert bool(latent.valid.all())
    ids = torch.tensor([[0, 3, 5, 6, 1, 1], [0, 4, 1, 1, 1, 1]])
    torch.testing.assert_close(latent.values, theirs(input_ids=ids).last_hidden_state, atol=1e-5, rtol=1e-5)
