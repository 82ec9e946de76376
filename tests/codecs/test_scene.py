"""Features of a frozen vision-language model: what it is shown, what is padded, what is refused, what it costs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nano_batch import ROBOT, nano_batch
from torch import Tensor

from crossroads.build import build
from crossroads.codecs import scene
from crossroads.codecs.scene import AnyVision, EagleVision, QwenVision, SceneCodec, SceneFeatures
from crossroads.errors import InputError
from crossroads.recipes.groot_n1 import groot_n17
from crossroads.recipes.pi0 import pi0
from crossroads.towers.given import Given
from crossroads.types import Observation

SPEC = SceneFeatures(
    model=QwenVision(source="nobody/nothing", width=6),
    cameras=("front", "left", "right"),
    image_hw=(32, 64),
    max_words=5,
    columns=2,
    hidden=(9,),
)


def seen(*text: str) -> Observation:
    num = len(text)
    images = {
        name: torch.full((num, 32, 64, 3), 40 * index, dtype=torch.uint8) for index, name in enumerate(SPEC.cameras)
    }
    return Observation(images=images, state=torch.zeros(num, 1), text=text, robot=("r",) * num, time_s=torch.zeros(num))


class Frozen:
    """Stands for the processor and the model: as many tokens as pictures have, and as a text has words."""

    image_token_id, passes = 0, 0

    def apply_chat_template(self, messages: list[dict], *, add_generation_prompt: bool) -> str:
        assert add_generation_prompt
        *pictures, words = messages[0]["content"]
        self.shape = pictures[0]["image"].shape
        return words["text"]

    def __call__(self, *, text: list[str], images: list[Tensor], return_tensors: str) -> dict[str, Tensor]:
        num = sum(SPEC.model.num_pictured(tuple(image.shape[1:])) for image in images)  # pyright: ignore
        words = torch.arange(1, 1 + len(text[0].split()))
        return {"input_ids": torch.cat([words[:1], torch.zeros(num, dtype=torch.long), words[1:]])[None]}

    def to(self, device: torch.device) -> Callable[..., SimpleNamespace]:
        return partial(self.model, device)

    def model(self, device: torch.device, *, input_ids: Tensor, output_hidden_states: bool) -> SimpleNamespace:
        assert input_ids.device == device
        self.passes += 1
        numbers = torch.arange(input_ids.shape[1], device=device)[None]
        states = numbers[..., None].expand(-1, -1, SPEC.model.width).float()
        return SimpleNamespace(hidden_states=(torch.zeros_like(states), states))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Frozen:
    found = Frozen()
    scene._states.cache_clear()
    for part in ("image_text_processor", "image_text_model"):
        monkeypatch.setattr(scene, part, lambda *given: found)
    return found


def test_every_token_of_picture_and_prompt_is_read_and_what_is_padded_is_not(frozen: Frozen) -> None:
    codec = SceneCodec(SPEC, 8)
    latent = codec.observe(seen("push", "push the cube"))
    assert SPEC.num_tokens("now") == 2 * 4 + 5
    assert frozen.shape == (3, 64, 128)
    assert latent.valid.sum(dim=1).tolist() == [9, 11]
    assert latent.values[1, :11, 0].tolist() == list(range(11))
    assert not latent.values[~latent.valid].any()
    assert codec.embed(latent.values, torch.zeros(2, 1)).shape == (2, 13, 8)
    assert sum(weight.numel() for weight in codec.parameters()) == SPEC.num_parameters(8)


def test_the_model_runs_where_the_policy_runs(frozen: Frozen) -> None:
    obs = seen("push")
    latent = SceneCodec(SPEC, 8).observe(replace(obs, state=obs.state.to("meta")))
    assert latent.values.device == latent.valid.device == torch.device("meta")


def test_pictures_and_words_are_held_apart_and_share_one_pass_of_the_model(frozen: Frozen) -> None:
    apart = replace(SPEC, apart=True, direct=True, part="image", max_words=4)
    codecs = {part: SceneCodec(replace(apart, part=part), 6) for part in ("image", "words")}
    found = {part: codec.observe(seen("push", "push the cube")) for part, codec in codecs.items()}
    assert (apart.num_tokens("now"), codecs["words"].spec.num_tokens("now")) == (3 * 2, 4)
    assert found["image"].values[1, :, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["words"].values[1, :, 0].tolist() == [0, 7, 8, 0]
    assert found["words"].valid.sum(dim=1).tolist() == [1, 3]
    assert frozen.passes == 2
    assert codecs["image"].spec.encode_flops("now") > codecs["words"].spec.encode_flops("now") == 0
    assert not list(codecs["image"].parameters())
    with pytest.raises(InputError, match=r"a tower as wide as the model \(6\), got 8"):
        SceneCodec(apart, 8)


def test_what_is_cut_off_the_frozen_model_is_not_paid_for() -> None:
    whole, cut = QwenVision().flops((64, 64), 9), QwenVision().flops((64, 64), 9, num_layers=7)
    vision = QwenVision().vision_flops((64, 64))
    assert cut - vision == pytest.approx((whole - vision) / 4)
    eagle = EagleVision()
    assert eagle.num_pictured((224, 224)) == 256
    assert eagle.flops((224, 224), 0) == pytest.approx(2 * 256 * (0.41e9 + 0.60e9), rel=0.1)


def test_cameras_stand_on_one_canvas_and_an_empty_place_is_grey() -> None:
    canvas = SceneCodec(SPEC, 8).canvas(seen("push"))
    assert canvas.shape == (1, 64, 128, 3)
    tiles = [canvas[0, row, column, 0].item() for row in (0, 40) for column in (0, 100)]
    assert tiles == [0, 40, 80, 127]


def test_a_prompt_that_is_too_long_is_refused(frozen: Frozen) -> None:
    with pytest.raises(InputError, match=r"at most 13 tokens.*got 14"):
        SceneCodec(SPEC, 8).observe(seen("put the red cube left there"))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"the package transformers.*crossroads\[backbones\]"):
        SceneCodec(SPEC, 8).observe(seen("push"))


def test_the_work_of_the_frozen_model_is_about_twice_its_weights_per_token() -> None:
    """Qwen3-VL-2B: 1.4e9 weights in its layers without the vocabulary, 0.3e9 in its vision tower (four times as many
    tokens there)."""
    model = QwenVision()
    words = model.flops((384, 320), 64) - model.flops((384, 320), 63)
    assert words == pytest.approx(2 * 1.41e9, rel=0.05)  # attention is the rest
    pictured = model.flops((384, 320), 0) / model.num_pictured((384, 320))
    assert pictured == pytest.approx(2 * 1.41e9 + 4 * 2 * 0.31e9, rel=0.1)


class Processor:
    """Stands for a published model's own: a picture's tokens, then a token per word; nothing of it is downloaded."""

    image_token_id = 50

    def apply_chat_template(self, messages: list[dict], *, add_generation_prompt: bool) -> str:
        return messages[0]["content"][-1]["text"]

    def __call__(self, *, text: list[str], images: list[Tensor], return_tensors: str) -> dict[str, Tensor]:
        words = [len(word) for word in text[0].split()]
        pixels = torch.stack(images)[None].float() / 127.5 - 1
        return {"input_ids": torch.tensor([[50] * 4 + words]), "pixel_values": pixels}


def tiny_smolvlm(folder: str) -> Any:
    """A model that no tower of ours is, as transformers writes it."""
    transformers = pytest.importorskip("transformers", reason="needs crossroads[backbones]")
    text = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = transformers.SmolVLMForConditionalGeneration(
        transformers.SmolVLMConfig(
            text_config={**text, "num_key_value_heads": 1, "vocab_size": 60, "pad_token_id": 0, "model_type": "llama"},
            vision_config={**vision, "image_size": 16, "patch_size": 4},
            scale_factor=2,
            image_token_id=50,
        )
    )
    model.save_pretrained(folder)
    return model


def test_states_of_any_model_of_transformers_are_read_across_and_its_layers_cannot_be_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tiny_smolvlm(str(tmp_path)).to(torch.bfloat16).eval()
    monkeypatch.setattr(scene, "image_text_processor", lambda source: Processor())
    scene._states.cache_clear()
    sizes = {"width": 16, "mlp": 24, "depth": 3, "heads": 2, "kv_heads": 1, "head_dim": 8}
    vision = {"patch": 4, "merged": 2, "vision_width": 12, "vision_mlp": 20, "vision_depth": 1}
    model = AnyVision(source=str(tmp_path), pictured=4, **sizes, **vision)
    shown = {"cameras": ("front",), "image_hw": (16, 16), "max_words": 4, "apart": True, "layers": 2, "direct": True}
    seen, words = (SceneFeatures(model=model, **shown, part=part) for part in ("image", "words"))
    images = {"front": torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)}
    obs = replace(nano_batch(groot_n17(), size=1).obs, images=images, text=("push the red cube",))
    read = SceneCodec(seen, 16).observe(obs)
    given = Processor()(text=list(obs.text), images=[images["front"][0].permute(2, 0, 1)], return_tensors="pt")
    with torch.no_grad():
        states = theirs(**given, output_hidden_states=True).hidden_states
    torch.testing.assert_close(read.values, states[2][:, :4].float(), atol=0.05, rtol=0.05)  # bfloat16
    whole = {
        "stage.streams.image.codec": seen,
        "stage.streams.text.codec": words,
        "stage.towers.language.spec": Given(width=16),
        "stage.towers.language.backbone": None,
    }
    policy = build(groot_n17().vary({**whole, "stage.towers.expert.spec.context_width": 16}), ROBOT, seed=1)
    batch = nano_batch(policy.recipe, size=1)
    losses = policy.loss(replace(batch, obs=obs), generator=torch.Generator().manual_seed(1))
    losses.total.mean().backward()
    assert all(weight.grad is not None for name, weight in policy.net.named_parameters() if "expert" in name)
    with pytest.raises(InputError, match=r"cut around the softmax.*language: called as a whole.*by a cross edge"):
        pi0().vary(whole)
