"""Frozen parts of published checkpoints: refused in four parts where a package is missing, equal to the package's own
results where it is there (tiny random checkpoints in a local folder, no hub)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from einops import rearrange
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from wan_twin import FORMS, TINY, WanForm, tiny_wan

from crossroads.codecs.image_autoencoder import ImageAutoencoder, ImageAutoencoderNet
from crossroads.codecs.latents import LatentCodec, VideoLatents
from crossroads.codecs.published import text_encoder, tokeniser
from crossroads.codecs.published_text import PretrainedVocabulary, TextFeatureCodec, TextFeatures
from crossroads.codecs.text import TextCodec, TextTokens
from crossroads.codecs.wan_autoencoder import WanAutoencoder, WanAutoencoderNet
from crossroads.errors import InputError
from crossroads.recipes import fast_wam_sizes
from crossroads.types import Observation


def told(*text: str) -> Observation:
    num = len(text)
    return Observation(images={}, state=torch.zeros(num, 1), text=text, robot=("r",) * num, time_s=torch.zeros(num))


def observe_words() -> None:
    TextFeatureCodec(TextFeatures(source="nobody/nothing", width=8, max_tokens=4), 8).observe(told("push"))


def encode_pixels() -> None:
    WanAutoencoderNet(WanAutoencoder(source="nobody/nothing")).encode(torch.zeros(1, 1, 32, 32, 3))


@pytest.mark.parametrize(("package", "use"), [("transformers", observe_words), ("diffusers", encode_pixels)])
def test_a_missing_package_names_the_extra(
    package: str, use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"the package {package}.*crossroads\[backbones\]"):
        use()


def test_features_of_another_width_than_their_tower_are_refused() -> None:
    with pytest.raises(InputError, match=r"as wide as their tower \(16\), got 8"):
        TextFeatureCodec(TextFeatures(source="nobody/nothing", width=8, max_tokens=4), 16)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokeniser of whole words with T5's end mark, and a UMT5 encoder of random weights."""
    transformers = pytest.importorskip("transformers", reason="needs crossroads[backbones]")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors  # pyright: ignore[reportMissingImports]

    folder = tmp_path_factory.mktemp("checkpoint")
    words = ["<pad>", "</s>", "<bos>", "<unk>", "do", ":", "push", "the", "cube", "\n"]
    pieces = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    pieces.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, **named).save_pretrained(folder / "tokenizer")
    config = transformers.UMT5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    torch.manual_seed(0)
    transformers.UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_text_features_are_the_encoders_states_zero_past_the_text_and_kept_for_policies_without_the_encoder(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import UMT5EncoderModel  # pyright: ignore[reportMissingImports]

    spec = TextFeatures(source=str(checkpoint), width=16, max_tokens=8, template="do : {task}")
    latent = TextFeatureCodec(spec, 16).observe(told("push the cube", "push"))
    model = UMT5EncoderModel.from_pretrained(checkpoint, subfolder="text_encoder", torch_dtype=torch.bfloat16).eval()
    for row, ids in zip(latent.values, ([4, 5, 6, 7, 8, 1], [4, 5, 6, 1]), strict=True):
        with torch.no_grad():  # with gradients another kernel runs, which rounds bfloat16 otherwise
            expected = model(torch.tensor([ids])).last_hidden_state[0].float()
        torch.testing.assert_close(row[: len(ids)], expected, atol=1e-2, rtol=1e-2)
        assert not row[len(ids) :].any()
        assert row[: len(ids)].any(dim=1).all()
    assert latent.valid.all()
    with pytest.raises(InputError, match=r"at most 8 tokens, got 11"):
        TextFeatureCodec(spec, 16).observe(told("push the cube push the cube push the"))
    monkeypatch.setitem(sys.modules, "transformers", None)  # a robot without the extra, and without the weights
    for part in (tokeniser, text_encoder):
        part.cache_clear()
    moved = checkpoint.rename(tmp_path / "moved")
    try:
        again = TextFeatureCodec(spec, 16).observe(told("push", "push the cube"))
    finally:
        moved.rename(checkpoint)
    assert torch.equal(again.values, latent.values.flip(0))


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_a_pretrained_vocabulary_writes_start_text_and_suffix(checkpoint: Path) -> None:
    vocabulary = PretrainedVocabulary(
        source=str(checkpoint), subfolder="tokenizer", size=10, start=2, end=1, suffix="\n"
    )
    assert vocabulary.encode(" push_the cube\n") == [2, 6, 7, 8, 9]
    assert vocabulary.decode([6, 7, 1, 8]).split() == ["push", "the"]
    codec = TextCodec(TextTokens(vocabulary=vocabulary, max_tokens=6, scaled=True), 4)
    latent = codec.observe(told("push the cube", "push"))
    assert latent.values.tolist() == [[2, 6, 7, 8, 9], [2, 6, 9, 0, 0]]
    assert latent.valid.tolist() == [[True] * 5, [True] * 3 + [False] * 2]


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_wan_autoencoder_is_diffusers_own_with_latents_normalised_per_channel(form: WanForm, tmp_path: Path) -> None:
    spec, theirs = tiny_wan(form, tmp_path)
    future_s = (0.1, 0.2, 0.3, 0.4)
    video = VideoLatents(cameras=("a",), image_hw=(32, 64), future_s=future_s, autoencoder=spec)
    codec = LatentCodec(video, 8)
    clip = torch.rand(2, 5, 32, 64, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        raw = theirs.encode(rearrange(clip, "b t h w c -> b c t h w")).latent_dist.mode()
        pixels = rearrange(theirs.decode(raw).sample, "b c t h w -> b t h w c")
    z = codec.autoencoder.encode(clip)
    assert z.shape == (2, 2, *video.grid_hw, 4)
    scaled = z * torch.tensor([1.0, 2.0, 3.0, 4.0]) + torch.tensor([0.0, 0.1, 0.2, 0.3])
    torch.testing.assert_close(scaled, rearrange(raw, "b c t h w -> b t h w c"), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(codec.autoencoder.decode(z), pixels, atol=1e-4, rtol=1e-4)
    assert not [name for name in codec.state_dict() if name.startswith("autoencoder")]


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_weights_of_another_form_than_described_are_refused(tmp_path: Path) -> None:
    spec, _ = tiny_wan(FORMS[0], tmp_path)
    other = WanAutoencoder(source=spec.source, channels=4, space_factor=16)
    with pytest.raises(InputError, match="expected 4 channels at 16x in space, got 4 at 8x"):
        WanAutoencoderNet(other).encode(torch.zeros(1, 1, 32, 32, 3))


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_an_autoencoder_is_known_by_its_numbers_and_statistics_wherever_it_lies(tmp_path: Path) -> None:
    def identity(folder: str, **changes: object) -> str:
        theirs = FORMS[0].net(**{**TINY, **changes})
        theirs.save_pretrained(tmp_path / folder / "vae")
        spec = WanAutoencoder(source=str(tmp_path / folder), channels=4, space_factor=8)
        return WanAutoencoderNet(spec).identity()

    one = identity("here")
    assert identity("there") == one
    assert identity("scaled", latents_std=[2.0] * 4) != one
    assert identity("wider", base_dim=16) != one


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_cost_of_a_published_autoencoder_is_what_the_flop_counter_says(form: WanForm) -> None:
    spec = form.published("none")
    with torch.device("meta"):
        net = form.net().eval()
        clip = torch.zeros(1, 3, 9, 96, 64)
    assert sum(weight.numel() for weight in net.parameters()) == spec.num_parameters()
    with torch.no_grad(), FlopCounterMode(display=False) as encoding:
        z = net.encode(clip).latent_dist.mode()
    with torch.no_grad(), FlopCounterMode(display=False) as decoding:
        net.decode(z)
    assert z.shape[1:] == (spec.channels, 3, *spec.latent_hw((96, 64)))
    assert encoding.get_total_flops() == spec.encode_flops(9, (96, 64))
    assert decoding.get_total_flops() == spec.decode_flops(3, (96, 64))


def test_fast_wams_autoencoder_is_the_published_form_of_wan_2_2() -> None:
    autoencoder = fast_wam_sizes.PUBLISHED.video.autoencoder
    assert isinstance(autoencoder, WanAutoencoder)
    assert autoencoder == FORMS[1].published(autoencoder.source)
    assert autoencoder.num_parameters() == 704_688_668


def test_the_cost_of_an_unpublished_form_is_refused_not_guessed() -> None:
    spec = WanAutoencoder(source="none", channels=16, space_factor=16)
    for ask in (spec.num_parameters, lambda: spec.encode_flops(1, (32, 32)), lambda: spec.decode_flops(1, (32, 32))):
        with pytest.raises(InputError, match=r"16 channels at 8x in space or 48 channels at 16x.*got 16 at 16x"):
            ask()


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_an_image_autoencoder_is_diffusers_own_with_latents_scaled(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs crossroads[backbones]")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    net = diffusers.AutoencoderKL(
        **blocks, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, scaling_factor=0.3, sample_size=16
    ).eval()
    net.save_pretrained(tmp_path / "vae")
    ours = ImageAutoencoderNet(ImageAutoencoder(source=str(tmp_path), subfolder="vae"))
    pixels = torch.rand(2, 3, 16, 24, 3) * 2 - 1
    z = ours.encode(pixels)
    assert z.shape == (2, 3, 2, 3, 4)
    with torch.no_grad():
        alone = net.encode(pixels[1, 2].permute(2, 0, 1)[None]).latent_dist.mode()[0] * 0.3
        torch.testing.assert_close(z[1, 2], alone.permute(1, 2, 0), atol=1e-5, rtol=1e-4)
        shown = net.decode(alone[None] / 0.3).sample[0].permute(1, 2, 0)
        torch.testing.assert_close(ours.decode(z)[1, 2], shown, atol=1e-4, rtol=1e-4)
    assert not ours.state_dict()
    assert len(ours.identity()) == 64
    with pytest.raises(InputError, match="5 channels at 8x"):
        ImageAutoencoderNet(ImageAutoencoder(source=str(tmp_path), subfolder="vae", channels=5)).encode(pixels)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_the_cost_of_stable_diffusions_autoencoder_is_what_the_flop_counter_says() -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs crossroads[backbones]")
    spec = ImageAutoencoder(source="none")
    with torch.device("meta"):
        net = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        ).eval()
        frames, z = torch.zeros(2, 3, 64, 32), torch.zeros(2, 4, 8, 4)
    assert sum(weight.numel() for weight in net.parameters()) == spec.num_parameters()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as encoding:
        net.encode(frames)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as decoding:
        net.decode(z)
    assert encoding.get_total_flops() == spec.encode_flops(2, (64, 32))
    assert decoding.get_total_flops() == spec.decode_flops(2, (64, 32))
