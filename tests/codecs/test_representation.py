"""Frozen representations, on tiny random checkpoints that transformers writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nano_batch import nano_batch
from safetensors.torch import save_file

from crossroads.codecs.representation import PictureEncoder, Representation, RepresentationCodec, VoltronEncoder
from crossroads.codecs.voltron import Voltron, VoltronNet
from crossroads.errors import InputError
from crossroads.recipes.cloning import cloning
from crossroads.types import Observation

SPEC = Voltron(
    resolution=16,
    patch=4,
    width=8,
    depth=1,
    heads=2,
    decoder_width=8,
    decoder_depth=1,
    decoder_heads=2,
    words_width=6,
    max_words=4,
    vocabulary=9,
)
transformers = pytest.importorskip("transformers")


def observed() -> Observation:
    return nano_batch(cloning()).obs


def spec_of(encoder: PictureEncoder | VoltronEncoder) -> Representation:
    return Representation(encoder=encoder, cameras=("front",), image_hw=(64, 64))


def test_an_autoencoders_class_token_and_a_resnets_places_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    mae = transformers.ViTMAEConfig(image_size=16, patch_size=8, mask_ratio=0.0, **sizes)
    transformers.ViTMAEModel(mae).save_pretrained(tmp_path / "mae")
    resnet = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(resnet).save_pretrained(tmp_path / "resnet")
    for name, num in (("mae", 1), ("resnet", 4)):
        spec = spec_of(PictureEncoder(source=str(tmp_path / name), width=8, num=num, square=16))
        codec = RepresentationCodec(spec, 8)
        one, again = codec.observe(observed()), codec.observe(observed())
        assert one.values.shape == (2, num, 8)
        torch.testing.assert_close(one.values, again.values)
        assert not torch.equal(one.values[0], one.values[1])
        assert not list(codec.parameters())


def test_voltron_reads_the_words_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = tmp_path / "words"
    config = transformers.DistilBertConfig(vocab_size=30, dim=6, hidden_dim=8, n_layers=1, n_heads=2)
    transformers.DistilBertModel(config).save_pretrained(words)
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "push", "press", "the", "red", "blue"]
    (words / "vocab.txt").write_text("\n".join(letters))
    transformers.DistilBertTokenizer(str(words / "vocab.txt")).save_pretrained(words)
    net = VoltronNet(SPEC)
    folder = tmp_path / "voltron"
    folder.mkdir()
    save_file({**net.state_dict(), "prefix_mask": torch.zeros(1)}, folder / "model.safetensors")
    spec = spec_of(VoltronEncoder(source=str(folder), sizes=SPEC, words=str(words)))
    codec, obs = RepresentationCodec(spec, SPEC.width), observed()
    found = codec.observe(obs).values
    assert found.shape == (2, SPEC.num_patches + SPEC.max_words, SPEC.width)
    other = codec.observe(replace(obs, text=("press the red", *obs.text[1:]))).values
    assert not torch.equal(found[0], other[0])
    torch.testing.assert_close(found[1], other[1])
    assert not list(codec.parameters())


def test_a_checkpoint_that_is_not_there_is_told_with_its_place(tmp_path: Path) -> None:
    codec = RepresentationCodec(spec_of(PictureEncoder(source=str(tmp_path), width=8)), 8)
    with pytest.raises(InputError, match=r"encoder of .*its files"):
        codec.observe(observed())
