"""The words of Cosmos-Predict2.5: layers evened and joined, kept per instruction, projected by trained weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from crossroads.codecs import reason
from crossroads.codecs.reason import SYSTEM, ReasonCodec, ReasonFeatures
from crossroads.codecs.text_cache import PARTS
from crossroads.errors import InputError
from crossroads.types import Observation

SPEC = ReasonFeatures(source="nobody/nothing", num_layers=2, layer_width=6, max_tokens=5)


def told(*text: str) -> Observation:
    num = len(text)
    return Observation(images={}, state=torch.zeros(num, 1), text=text, robot=("r",) * num, time_s=torch.zeros(num))


class Frozen:
    """Stands for the tokeniser and the encoder; counts how often it is asked."""

    asked = 0

    def apply_chat_template(self, talk: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        assert not add_generation_prompt
        assert talk[0] == {"role": "system", "content": SYSTEM}
        return talk[1]["content"]

    def __call__(self, prompt: str, *, padding: str, max_length: int, return_tensors: str) -> SimpleNamespace:
        num = max(max_length, len(prompt.split()))
        return SimpleNamespace(input_ids=torch.arange(num)[None])

    def to(self, device: torch.device) -> Callable[..., SimpleNamespace]:
        return partial(self.model, device)

    def model(self, device: torch.device, ids: Tensor, *, output_hidden_states: bool) -> SimpleNamespace:
        assert ids.device == device
        self.asked += 1
        layers = [torch.randn(1, ids.shape[1], 6, generator=torch.Generator().manual_seed(n)) + 9 for n in range(3)]
        return SimpleNamespace(hidden_states=tuple(layer.to(device, torch.bfloat16) for layer in layers))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Frozen:
    found = Frozen()
    for part in ("tokeniser", "reason_encoder"):
        monkeypatch.setattr(reason, part, lambda source, subfolder: found)
    return found


def test_layers_are_evened_joined_kept_and_projected(frozen: Frozen) -> None:
    codec = ReasonCodec(SPEC, 4)
    latent = codec.observe(told("push", "pull", "push"))
    assert latent.values.shape == (3, 5, 12)
    assert bool(latent.valid.all())
    assert frozen.asked == 2
    assert latent.values.dtype == torch.float32
    for layer in latent.values.split(6, dim=-1):  # the embedding is no layer
        torch.testing.assert_close(layer.mean(dim=-1), torch.zeros(3, 5), atol=1e-6, rtol=0)
        torch.testing.assert_close(layer.std(dim=-1), torch.ones(3, 5), atol=1e-5, rtol=0)
    codec.embed(latent.values, torch.zeros(3, 1)).sum().backward()
    assert codec.enter.weight.grad is not None
    assert sum(weight.numel() for weight in codec.parameters()) == SPEC.num_parameters(4)


def test_a_prompt_that_is_too_long_is_refused(frozen: Frozen) -> None:
    with pytest.raises(InputError, match=r"at most 5 tokens.*got 6"):
        ReasonCodec(SPEC, 4).observe(told("put the red cube left there"))


def test_states_are_kept_on_disk_as_the_encoder_gave_them_for_policies_without_it(
    frozen: Frozen, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in PARTS:
        (tmp_path / part).mkdir()
        (tmp_path / part / "tokenizer.json").write_text("{}")
    spec = replace(SPEC, source=str(tmp_path))
    first = ReasonCodec(spec, 4).observe(told("push", "pull"))
    assert frozen.asked == 2
    for part in ("tokeniser", "reason_encoder"):
        monkeypatch.setattr(reason, part, lambda source, subfolder: pytest.fail("loaded again"))
    again = ReasonCodec(spec, 4)
    assert torch.equal(again.observe(told("push", "pull")).values, first.values)
    held = again.known.held["push"]
    assert (held.dtype, held.shape) == (torch.bfloat16, (5, 12))
    assert len(list(own_cache.glob("text/*/*.safetensors"))) == 2
    with pytest.raises(InputError, match="states of 10 numbers a token, got 12"):
        ReasonCodec(replace(spec, layer_width=5), 4).observe(told("push"))


def test_the_encoder_runs_where_the_policy_runs(frozen: Frozen) -> None:
    codec = ReasonCodec(SPEC, 4)
    moved: list[torch.device] = []
    frozen.to = lambda device: moved.append(device) or partial(frozen.model, device)
    with pytest.raises(NotImplementedError, match="meta tensor"):  # whose numbers cannot be kept
        codec.observe(told("push").to("meta"))
    assert moved == [torch.device("meta")]


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"the package transformers.*crossroads\[backbones\]"):
        ReasonCodec(SPEC, 4).observe(told("push"))
