"""States of a text are computed once for all processes and kept under what decides them; a killed writer harms none."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from crossroads.codecs import identity, published_text, text_cache
from crossroads.codecs.identity import weights_identity
from crossroads.codecs.published_text import TextFeatureCodec, TextFeatures
from crossroads.codecs.text_cache import PARTS, TextCache
from crossroads.errors import InputError
from crossroads.storage import appearing, default_root


class Encoder:
    """A checkpoint folder, and stand-ins for its tokeniser and encoder that count how often they work."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls, self.gone = folder, 0, False
        for part in PARTS:
            (folder / part).mkdir(parents=True)
        (folder / "text_encoder" / "config.json").write_text("{}")
        (folder / "tokenizer" / "tokenizer.json").write_text("{}")
        self.put(1)

    def put(self, weights: int) -> None:
        """Other weights under the same name, of the same size."""
        (self.folder / "text_encoder" / "model.safetensors").write_bytes(bytes([weights] * 100))
        self.weights = weights
        text_cache._identity_when_loaded.cache_clear()  # as in a process that loads them anew

    def remove(self) -> None:
        (self.folder / "text_encoder" / "model.safetensors").unlink()
        self.gone = True

    def tokeniser(self, source: str, subfolder: str):
        self._here(subfolder)
        return lambda prompt, **_: SimpleNamespace(input_ids=torch.tensor([[len(word) for word in prompt.split()]]))

    def text_encoder(self, source: str, subfolder: str):
        self._here(subfolder)
        return self

    def to(self, device: torch.device | str):
        return self._encode

    def _here(self, subfolder: str) -> None:
        if self.gone:
            raise InputError(where=f"{subfolder} of it", expected="its files", got="none", do="Log in.")

    def _encode(self, ids: Tensor) -> SimpleNamespace:
        self.calls += 1
        generator = torch.Generator().manual_seed(int(ids.sum()) + 1000 * self.weights)
        return SimpleNamespace(
            last_hidden_state=torch.randn(1, ids.shape[1], 6, generator=generator, dtype=torch.bfloat16)
        )


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encoder]:
    one = Encoder(tmp_path / "checkpoint")
    monkeypatch.setattr(published_text, "tokeniser", one.tokeniser)
    monkeypatch.setattr(published_text, "text_encoder", one.text_encoder)
    yield one
    text_cache._identity_when_loaded.cache_clear()


def spec(encoder: Encoder, **changes: object) -> TextFeatures:
    told = TextFeatures(source=str(encoder.folder), width=6, max_tokens=5, template="do : {task}")
    return replace(told, **changes)


def states(encoder: Encoder, text: str, **changes: object) -> Tensor:
    """As a policy of its own, that has seen nothing yet."""
    return TextFeatureCodec(spec(encoder, **changes), 6).features(text)


def test_a_second_policy_answers_without_the_weights_to_the_last_bit(encoder: Encoder) -> None:
    first = states(encoder, "push it")
    encoder.remove()
    assert torch.equal(states(encoder, "push it"), first)
    assert encoder.calls == 1
    assert first.shape == (5, 6)
    assert first[:4].all()
    assert not first[4:].any()


def test_an_unknown_text_without_weights_names_both_ways_out(encoder: Encoder, own_cache: Path) -> None:
    states(encoder, "push it")
    encoder.remove()
    with pytest.raises(InputError, match=r"Log in\..*Or act on this text where the encoder is") as caught:
        states(encoder, "pull it")
    assert "kept states of 'pull it'" in caught.value.expected
    assert str(own_cache / "text") in caught.value.expected


def test_memory_holds_what_was_asked_for_last_and_the_disk_the_rest(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_cache, "MOST_BYTES", 2 * 4 * 6 * 2)  # two instructions of four tokens
    codec = TextFeatureCodec(spec(encoder), 6)
    first = codec.features("push it")
    for text in ("pull it", "push it", "lift it"):
        codec.features(text)
    assert list(codec.known.held) == ["push it", "lift it"]
    codec.features("pull it")
    assert torch.equal(codec.features("push it"), first)
    assert encoder.calls == 3
    codec.features("put it there")  # larger than half
    assert list(codec.known.held) == ["put it there"]


@pytest.mark.parametrize("changes", [{"template": "now : {task}"}, {"max_tokens": 4}], ids=str)
def test_states_of_another_template_or_length_are_others(encoder: Encoder, changes: dict[str, object]) -> None:
    states(encoder, "push it")
    states(encoder, "push it", **changes)
    assert encoder.calls == 2


def test_other_weights_under_the_same_name_have_other_states(encoder: Encoder) -> None:
    first = states(encoder, "push it")
    encoder.put(2)
    second = states(encoder, "push it")
    assert not torch.equal(first, second)
    assert torch.equal(states(encoder, "push it"), second)
    encoder.put(1)
    assert torch.equal(states(encoder, "push it"), first)
    assert encoder.calls == 2
    encoder.remove()
    with pytest.raises(InputError, match="none kept by an encoder that is known for certain"):
        states(encoder, "push it")  # by which of the two?


def test_weights_are_known_by_content_wherever_they_lie_and_by_all_their_parts(
    encoder: Encoder, tmp_path: Path
) -> None:
    other = Encoder(tmp_path / "elsewhere")
    assert weights_identity(str(other.folder), PARTS) == weights_identity(str(encoder.folder), PARTS)
    (other.folder / "tokenizer" / "tokenizer.json").write_text("{ }")
    assert weights_identity(str(other.folder), PARTS) != weights_identity(str(encoder.folder), PARTS)
    index = '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
    (other.folder / "text_encoder" / "model.safetensors.index.json").write_text(index)
    assert weights_identity(str(other.folder), PARTS) is None  # one shard is missing
    assert weights_identity("nobody/nothing", PARTS) is None


def test_a_large_file_is_read_once_until_it_changes(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_LARGE_BYTES", 50)
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(given) or digest(*given))
    first = weights_identity(str(encoder.folder), PARTS)
    assert weights_identity(str(encoder.folder), PARTS) == first
    assert len(read) == 1
    encoder.put(2)
    os.utime(encoder.folder / "text_encoder" / "model.safetensors", ns=(1, 1))
    assert weights_identity(str(encoder.folder), PARTS) != first
    assert len(read) == 2


def test_many_writers_and_readers_of_one_text_never_meet_half_a_file(tmp_path: Path) -> None:
    cache, rows = TextCache(folder=tmp_path / "kept"), torch.randn(64, 512).bfloat16()
    asked = {"template": "{task}", "max_tokens": 64, "text": "push"}

    def work(number: int) -> bool:
        if number % 2:
            cache.write(rows, source="here", **asked)
            return True
        found = cache.read(**asked)
        return found is None or torch.equal(found, rows)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert [path.suffix for path in cache.folder.iterdir()] == [".safetensors"]  # and no drafts are left


KILLED = """
import os, signal, sys
from pathlib import Path
from crossroads.storage import appearing
with appearing(Path(sys.argv[1])) as draft:
    draft.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_killed_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "file"
    for before in (None, b"whole"):
        if before is not None:
            with appearing(path) as draft:
                draft.write_bytes(before)
        done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert (path.read_bytes() if path.exists() else None) == before


def test_a_folder_that_cannot_be_written_is_told_with_the_variable_that_moves_it(
    encoder: Encoder, own_cache: Path
) -> None:
    own_cache.write_text("a file where the folder should be")
    assert default_root() == own_cache
    with pytest.raises(InputError, match=r"a folder that can be written.*set CROSSROADS_CACHE"):
        states(encoder, "push it")


def test_a_damaged_file_is_named(encoder: Encoder, own_cache: Path) -> None:
    states(encoder, "push it")
    (path,) = own_cache.glob("text/*/*.safetensors")
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=f"{path.name}.*Delete the file"):
        states(encoder, "push it")
