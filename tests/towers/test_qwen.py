"""Qwen2.5-VL and Qwen3-VL made of our parts are transformers' own, forward and backward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import vlm_twin
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.codecs.qwen_pictures import CLIP_MEAN, CLIP_STD, Qwen3Pictures, Qwen25Pictures, QwenPictureCodec
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.recipes.names import exported, imported
from crossroads.recipes.qwen_names import qwen_names
from crossroads.towers.qwen import Qwen, QwenBlock, QwenFrame

transformers = pytest.importorskip("transformers", reason="needs crossroads[backbones]")

PICTURE, START, END = 256, 257, 258
"""Pieces that stand for a picture's tokens and its marks."""
MARKS = {"codecs.image.start": START, "codecs.image.end": END}
PICTURES_25 = Qwen25Pictures(
    cameras=("front", "wrist"),
    image_hw=(24, 16),  # 12 x 8 patches: two rows of windows of 8 x 8, of which one is cut
    patch=2,
    depth=2,
    vision_width=16,
    vision_mlp=20,
    heads=2,
    window_side=8,
    full=(1,),
)
PICTURES_3 = Qwen3Pictures(
    cameras=("front", "wrist"),
    image_hw=(12, 8),
    patch=2,
    depth=3,
    vision_width=16,
    vision_mlp=20,
    heads=2,
    places=4,
    deep=(0, 1),
)
SIZES: dict[str, Any] = {"width": 16, "mlp": 24, "depth": 3, "heads": 2, "kv_heads": 1, "head_dim": 8}
LANGUAGE_25 = Qwen(**SIZES, sections=(1, 2, 1), biased=True)
LANGUAGE_3 = Qwen(**SIZES, sections=(2, 1, 1), interleaved=True, normed=True)


def texts(spec: Qwen) -> dict[str, Any]:
    """transformers' names of the sizes."""
    return {
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "rms_norm_eps": spec.eps,
        "vocab_size": vlm_twin.TEXT.vocabulary.size,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.theta, "mrope_section": list(spec.sections)},
        "tie_word_embeddings": True,
        "pad_token_id": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def twin(image: Qwen25Pictures | Qwen3Pictures, language: Qwen) -> Any:
    """transformers' model of these sizes, with random weights."""
    seen: dict[str, Any] = {
        "depth": image.depth,
        "hidden_size": image.vision_width,
        "intermediate_size": image.vision_mlp,
        "num_heads": image.heads,
        "patch_size": image.patch,
        "out_hidden_size": language.width,
    }
    tokens = {
        "image_token_id": PICTURE,
        "video_token_id": 255,
        "vision_start_token_id": START,
        "vision_end_token_id": END,
    }
    torch.manual_seed(0)
    if isinstance(image, Qwen25Pictures):
        seen |= {"fullatt_block_indexes": list(image.full), "window_size": image.window_side * image.patch}
        config = transformers.Qwen2_5_VLConfig(
            text_config=texts(language), vision_config=seen, tie_word_embeddings=True, **tokens
        )
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    else:
        seen |= {"num_position_embeddings": image.places**2, "deepstack_visual_indexes": list(image.deep)}
        config = transformers.Qwen3VLConfig(
            text_config=texts(language), vision_config=seen, tie_word_embeddings=True, **tokens
        )
        model = transformers.Qwen3VLForConditionalGeneration(config)
    vlm_twin.shaken(model)
    return model.eval()


def shown(image: Qwen25Pictures | Qwen3Pictures, batch: int) -> Latent:
    drawn = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (batch, len(image.cameras), *image.image_hw, 3), generator=drawn, dtype=torch.uint8)
    return Latent(values=pixels, valid=torch.ones(batch, image.num_tokens("now")).bool())


def patches(image: Qwen25Pictures | Qwen3Pictures, pixels: Tensor) -> Tensor:
    """As transformers' processors give them: two frames alike, squares of patches behind each other."""
    mean, std = (CLIP_MEAN, CLIP_STD) if isinstance(image, Qwen25Pictures) else ((0.5,) * 3, (0.5,) * 3)
    normed = (pixels.float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    twice = repeat(normed, "b v h w c -> b v t h w c", t=2)
    sizes = {"i": image.patch, "j": image.patch, "p": 2, "q": 2}
    return rearrange(twice, "b v t (h p i) (w q j) c -> (b v h w p q) (c t i j)", **sizes)


def answered(model: Any, image: Qwen25Pictures | Qwen3Pictures | None, latents: dict[str, Latent]) -> Tensor:
    """transformers' scores of the words."""
    ids, valid = latents["text"].values, latents["text"].valid
    if image is None:
        return model(input_ids=ids, attention_mask=valid.long()).logits
    picture = [START, *[PICTURE] * (image.tokens_per_camera - 2), END] * len(image.cameras)
    ids = torch.cat([torch.tensor(picture).expand(len(ids), -1), ids], dim=1)
    rows, columns = image.patches_hw
    found = model(
        input_ids=ids,
        attention_mask=torch.nn.functional.pad(valid.long(), (len(picture), 0), value=1),
        pixel_values=patches(image, latents["image"].values),
        image_grid_thw=torch.tensor([[1, rows, columns]] * len(ids) * len(image.cameras)),
        mm_token_type_ids=(ids == PICTURE).int(),
    )
    return found.logits[:, len(picture) :]


BOTH = {"qwen2.5": (PICTURES_25, LANGUAGE_25), "qwen3": (PICTURES_3, LANGUAGE_3)}


@pytest.mark.parametrize("padded", [0, 4])
@pytest.mark.parametrize("pictured", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_our_parts_are_the_published_model(kind: str, pictured: bool, padded: int) -> None:
    image, language = BOTH[kind]
    model = twin(image, language)
    names = qwen_names(image, language, tied=True, marks=(START, END))
    groups = ("image", "text") if pictured else ("text",)
    if not pictured:
        names = tuple(entry for entry in names if "codecs.image" not in entry.ours)
    net = vlm_twin.alone(image if pictured else None, language, vlm_twin.causal(*groups))
    left = () if pictured else (name for name in model.state_dict() if "visual" in name)
    vlm_twin.load(net, names, model, "lm_head.weight", *left)
    given = {"text": vlm_twin.words(2, padded)} | ({"image": shown(image, 2)} if pictured else {})
    found = vlm_twin.ours(net, given)
    wanted = vlm_twin.theirs(model, names, answered(model, image if pictured else None, given), given["text"].valid)
    vlm_twin.equal(found, wanted, MARKS if pictured else {})


@pytest.mark.parametrize("kind", BOTH)
def test_weights_come_back_as_they_went_in_and_are_as_many_as_is_said(kind: str) -> None:
    image, language = BOTH[kind]
    given = twin(image, language).state_dict()
    names = qwen_names(image, language, tied=True, marks=(START, END))
    back = exported(names, imported(names, given))
    assert back.keys() == given.keys() - {"lm_head.weight"}
    assert all(torch.equal(back[name], given[name]) for name in back)
    modules = (QwenFrame(language), *(QwenBlock(language, layer) for layer in range(language.depth)))
    assert language.num_parameters() == sum(weight.numel() for part in modules for weight in part.parameters())
    codec = QwenPictureCodec(image, language.width)
    assert image.num_parameters(language.width) == sum(weight.numel() for weight in codec.parameters())


@pytest.mark.parametrize("kind", BOTH)
def test_work_is_the_counted_one(kind: str) -> None:
    image, language = BOTH[kind]
    codec = QwenPictureCodec(image, language.width)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        codec.embed(shown(image, 1).values, torch.zeros(1, 1))
    assert counter.get_total_flops() == image.embed_flops("now", language.width)


def test_a_picture_takes_as_many_places_as_its_longer_side_has_tokens() -> None:
    image = replace(PICTURES_3, marked=False)
    net = vlm_twin.alone(image, LANGUAGE_3, vlm_twin.causal("image", "text"))
    valid = {"image": torch.ones(1, 12).bool(), "text": torch.ones(1, 4).bool()}
    pictures, text = net.place("image", 12, valid), net.place("text", 4, valid)
    assert pictures.index.tolist() == [[0.0] * 6 + [3.0] * 6]
    assert text.index.tolist() == [[6.0, 7.0, 8.0, 9.0]]
    hidden = {**valid, "image": valid["image"].clone().index_fill(1, torch.arange(6), False)}
    assert net.place("text", 4, hidden).index.tolist() == [[3.0, 4.0, 5.0, 6.0]]
    assert net.place("image", 12, hidden).index[:, 6:].tolist() == [[0.0] * 6]


def test_axes_share_the_head_out_as_published_configurations_say() -> None:
    """Qwen2.5-VL [16, 24, 24]: one run each; Qwen3-VL [24, 20, 20]: in threes as far as there are three."""
    sizes = {**SIZES, "head_dim": 128}
    runs = Qwen(**sizes, sections=(16, 24, 24)).axes()
    turns = Qwen(**sizes, sections=(24, 20, 20), interleaved=True).axes()
    assert runs.tolist() == [0] * 16 + [1] * 24 + [2] * 24
    assert turns.tolist() == [0, 1, 2] * 20 + [0] * 4
    with pytest.raises(InputError, match="frequencies for half a head of 8"):
        Qwen(**SIZES, sections=(1, 1, 1))


def test_pictures_of_broken_tokens_and_too_many_deep_layers_are_refused() -> None:
    with pytest.raises(InputError, match="whole tokens of 4 pixels"):
        replace(PICTURES_3, image_hw=(12, 10))
    net = vlm_twin.alone(PICTURES_3, replace(LANGUAGE_3, depth=1), vlm_twin.causal("image", "text"))
    with pytest.raises(InputError, match=r"at most its 1 layers.*got states for 2"):
        vlm_twin.ours(net, {"text": vlm_twin.words(1, 0), "image": shown(PICTURES_3, 1)})
