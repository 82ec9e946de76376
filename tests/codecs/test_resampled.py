"""Pictures and words through frozen encoders of published kinds (tiny random checkpoints), and a few tokens of many."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crossroads.codecs.resampled import MEAN, STD, MaskedAutoencoder, ResampledCodec, ResampledImages
from crossroads.codecs.resampler import Resampler, ResamplerNet
from crossroads.codecs.sentence import ClipSentences, SentenceCodec, SentenceTokens, WordMeans
from crossroads.codecs.steps import Steps
from crossroads.codecs.text import Vocabulary
from crossroads.types import Observation

STEPS = Steps(num=3, apart_s=0.5, ahead=2)


def seen(*text: str) -> Observation:
    generator, num = torch.Generator().manual_seed(0), len(text)
    pictures = torch.randint(0, 256, (num, 8, 8, 3), generator=generator, dtype=torch.uint8)
    return Observation(
        images={"front": pictures}, state=torch.zeros(num, 1), text=text, robot=("r",) * num, time_s=torch.zeros(num)
    )


def test_the_frames_of_a_window_are_those_observed_and_those_foreseen() -> None:
    assert STEPS.later_s == (0.5, 1.0)
    assert STEPS.frames_s == (0.5, 1.0, 1.5, 2.0)
    latent = STEPS.filled(torch.ones(1, 2, 4), torch.tensor([[True, True]]), 2)
    assert latent.values[0, :, 0].tolist() == [1, 1, 0]
    assert latent.valid.tolist() == [[True, True, True, True, False, False]]


@torch.no_grad()
def test_a_resampler_does_not_know_the_order_of_what_it_reads() -> None:
    torch.manual_seed(0)
    net = ResamplerNet(Resampler(num=3, depth=2, heads=2, head_dim=4, marked=True), 8)
    features = torch.randn(2, 5, 8)
    torch.testing.assert_close(net(features), net(features.flip(1)), atol=1e-5, rtol=0)
    assert sum(weight.numel() for weight in net.parameters()) == Resampler(
        num=3, depth=2, heads=2, head_dim=4, marked=True
    ).num_parameters(8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked autoencoder and a CLIP of random weights, with a tokeniser of letters."""
    transformers = pytest.importorskip("transformers", reason="needs crossroads[backbones]")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors  # pyright: ignore[reportMissingImports]

    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = transformers.ViTMAEConfig(**sizes, image_size=8, patch_size=2)
    transformers.ViTMAEModel(made).save_pretrained(folder / "mae")
    words = ["<start>", "<end>", "<unk>", "push", "press", "the", "cube"]
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = transformers.CLIPTextConfig(**sizes, **ends, vocab_size=7, max_position_embeddings=8, projection_dim=6)
    transformers.CLIPTextModelWithProjection(text).save_pretrained(folder / "clip")
    pieces = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    pieces.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, eos_token="<end>", unk_token="<unk>", model_max_length=8
    ).save_pretrained(folder / "clip")
    return folder


@torch.no_grad()
def test_states_of_a_published_masked_autoencoder_keep_the_order_of_patches(checkpoint: Path) -> None:
    spec = ResampledImages(
        cameras=("front",),
        image_hw=(8, 8),
        patch=2,
        vision=MaskedAutoencoder(source=str(checkpoint / "mae"), width=8, depth=2, mlp=16, square=8),
        resampler=Resampler(num=2, depth=1, heads=2, head_dim=4),
        steps=STEPS,
    )
    codec, obs = ResampledCodec(spec, 12), seen("push", "press")
    latent = codec.observe(obs)
    assert latent.values.shape == (2, *codec.latent_shape("now")) == (2, 3, 1, 17, 8)
    from transformers import ViTMAEModel  # pyright: ignore[reportMissingImports]

    theirs = ViTMAEModel.from_pretrained(checkpoint / "mae", mask_ratio=0.0).eval()
    mean, std = (torch.tensor(part)[:, None, None] for part in (MEAN, STD))
    pixels = (obs.images["front"].permute(0, 3, 1, 2) / 255 - mean) / std
    shuffled = theirs(pixels)  # it sorts the patches by noise
    first, rest = shuffled.last_hidden_state.split([1, 16], dim=1)
    back = shuffled.ids_restore.unsqueeze(-1).expand_as(rest)
    reference = torch.cat([first, rest.gather(1, back)], dim=1)
    torch.testing.assert_close(latent.values[:, 0, 0], reference, atol=1e-5, rtol=1e-5)
    assert latent.valid.sum(dim=1).tolist() == [3, 3]
    assert codec.embed(latent.values, torch.zeros(2, 1)).shape == (2, 9, 12)


@torch.no_grad()
def test_a_sentence_is_what_a_published_clip_says_of_it_at_each_step(checkpoint: Path) -> None:
    source = ClipSentences(source=str(checkpoint / "clip"), width=6)
    codec = SentenceCodec(SentenceTokens(source=source, steps=STEPS, unit=True), 12)
    latent = codec.observe(seen("push the cube", "press the cube"))
    from transformers import AutoTokenizer, CLIPTextModelWithProjection  # pyright: ignore[reportMissingImports]

    theirs = CLIPTextModelWithProjection.from_pretrained(checkpoint / "clip").eval()
    ids = AutoTokenizer.from_pretrained(checkpoint / "clip")("press the cube", return_tensors="pt")
    torch.testing.assert_close(latent.values[1, 0], theirs(**ids).text_embeds[0])
    assert latent.valid.tolist() == [[True, False, False]] * 2
    longer = codec.embed(3 * latent.values, torch.zeros(2, 1))
    torch.testing.assert_close(longer, codec.embed(latent.values, torch.zeros(2, 1)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_clip_a_sentence_is_the_mean_of_its_words() -> None:
    words = WordMeans(vocabulary=Vocabulary(words=("push", "the", "cube")), width=4)
    codec = SentenceCodec(SentenceTokens(source=words, steps=STEPS), 12)
    one, two = codec.embed(codec.observe(seen("push the cube", "push push")).values, torch.zeros(2, 1))[:, 0]
    assert codec.table is not None
    ids = torch.tensor(words.vocabulary.encode("push the cube"))
    torch.testing.assert_close(one, codec.enter(codec.table(ids).mean(dim=0)), atol=1e-6, rtol=0)
    torch.testing.assert_close(two, codec.enter(codec.table(ids[:1])[0]), atol=1e-6, rtol=0)
