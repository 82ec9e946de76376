"""FAST: what the transform keeps, in which order it writes, what a fit learns, and the files that it shares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from torch import Tensor

from crossroads.codecs.fast import Fast, FastTokeniser, cosine_transform, inverse_cosine_transform
from crossroads.codecs.published import fast_files
from crossroads.errors import InputError

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 5), st.integers(0, 100))


def chunks_of(num: int, steps: int, size: int, seed: int) -> Tensor:
    return torch.randn(num, steps, size, generator=torch.Generator().manual_seed(seed)).cumsum(dim=1) / steps


def fitted(chunks: Tensor, **settings: int) -> FastTokeniser:
    spec = Fast(**{"size": 400, **settings})  # pyright: ignore[reportArgumentType]
    tokeniser = FastTokeniser(spec, *chunks.shape[1:])
    tokeniser.fit(chunks)
    return tokeniser


@given(SIZES)
@settings(max_examples=25)
def test_the_transform_is_scipys_and_keeps_lengths_and_angles(shape: tuple[int, int, int, int]) -> None:
    chunk = chunks_of(*shape)
    coefficients = cosine_transform(chunk)
    torch.testing.assert_close(coefficients, torch.from_numpy(dct(chunk.double().numpy(), axis=1, norm="ortho")))
    torch.testing.assert_close(coefficients.pow(2).sum(), chunk.double().pow(2).sum())
    torch.testing.assert_close(inverse_cosine_transform(coefficients), chunk.double())


@given(SIZES)
@settings(max_examples=12)
def test_a_chunk_comes_back_with_half_a_step_in_each_coefficient(shape: tuple[int, int, int, int]) -> None:
    """The transform is orthonormal, so the whole error is at most half a step times the root of their number."""
    chunk = chunks_of(*shape)
    tokeniser = fitted(chunk)
    back = tokeniser.decode(tokeniser.encode(chunk), *chunk.shape[1:])
    error = (back - chunk).flatten(1).norm(dim=1)
    assert error.max() <= 0.5 / 10 * chunk[0].numel() ** 0.5 + 1e-9


@given(st.integers(2, 10), st.integers(1, 5), st.data())
@settings(max_examples=30)
def test_low_frequencies_come_first_all_dimensions_of_one_together(steps: int, size: int, data: st.DataObject) -> None:
    frequency, dimension = data.draw(st.integers(0, steps - 1)), data.draw(st.integers(0, size - 1))
    coefficients = torch.zeros(1, steps, size, dtype=torch.float64)
    coefficients[0, frequency, dimension] = 3.0
    tokeniser = FastTokeniser(Fast(), steps, size)
    least = int(tokeniser.least)
    (found,) = tokeniser.characters(inverse_cosine_transform(coefficients)).tolist()
    assert [index for index, code in enumerate(found) if code != -least] == [frequency * size + dimension]
    assert found[frequency * size + dimension] == 30 - least


def test_below_what_was_fitted_is_cut_off_and_above_it_is_not() -> None:
    """As published: only negative characters are impossible."""
    tokeniser = fitted(chunks_of(8, 6, 2, 0))
    least = int(tokeniser.least)
    assert tokeniser.characters(torch.full((1, 6, 2), -100.0)).min() == 0
    assert tokeniser.characters(torch.full((1, 6, 2), 10.0)).max() == round(10 * 10 * 6**0.5) - least


def test_byte_pairs_shorten_what_they_were_fitted_on_and_lose_nothing() -> None:
    chunks = chunks_of(60, 16, 7, 1)
    tokeniser = fitted(chunks, size=500)
    rows = tokeniser.encode(chunks)
    assert sum(map(len, rows)) < 0.75 * chunks.numel()
    plain = inverse_cosine_transform(tokeniser.quantised(chunks) / 10.0)
    torch.testing.assert_close(tokeniser.decode(rows, 16, 7), plain)


def test_a_saved_tokeniser_is_read_again_exactly_and_by_the_library_that_publishes_them(tmp_path: Path) -> None:
    chunks = chunks_of(40, 8, 3, 2)
    tokeniser = fitted(chunks, size=300)
    tokeniser.save(tmp_path)
    other = FastTokeniser(Fast(size=300), 8, 3)
    other.load(tmp_path)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in tokeniser.state_dict().items())
    assert other.encode(chunks) == tokeniser.encode(chunks)
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    texts = ["".join(map(chr, row)) for row in tokeniser.characters(chunks).tolist()]
    assert theirs(texts)["input_ids"] == tokeniser.encode(chunks)
    assert json.loads((tmp_path / "processor_config.json").read_text())["min_token"] == int(tokeniser.least)


def test_a_source_is_read_at_first_use_and_then_belongs_to_the_weights(tmp_path: Path) -> None:
    chunks = chunks_of(40, 8, 3, 2)
    tokeniser = fitted(chunks, size=300)
    tokeniser.save(tmp_path / "published")
    spec = Fast(size=300, source=str(tmp_path / "published"))
    other, later = FastTokeniser(spec, 8, 3), FastTokeniser(spec, 8, 3)
    other.fit(10 * chunks)  # a published one is not fitted anew
    assert other.encode(chunks) == tokeniser.encode(chunks)
    fast_files.cache_clear()
    (tmp_path / "published").rename(tmp_path / "gone")
    later.load_state_dict(other.state_dict())
    assert later.encode(chunks) == tokeniser.encode(chunks)


def test_what_cannot_be_a_tokeniser_is_refused(tmp_path: Path) -> None:
    chunks = chunks_of(40, 8, 3, 2)
    with pytest.raises(InputError, match=r"at most 20 tokens.*Raise the size"):
        fitted(chunks, size=20)
    with pytest.raises(InputError, match="chunks of actions to learn from, got none"):
        FastTokeniser(Fast(), 8, 3).fit([])
    with pytest.raises(InputError, match="a character can hold"):
        FastTokeniser(Fast(), 8, 3).encode(1e6 * chunks)
    with pytest.raises(InputError, match=r"processor_config\.json"):
        FastTokeniser(Fast(), 8, 3).load(tmp_path)
    fitted(chunks, size=300).save(tmp_path)
    with pytest.raises(InputError, match="vocab_size 1024, got 300"):
        FastTokeniser(Fast(), 8, 3).load(tmp_path)
    told = json.loads((tmp_path / "tokenizer.json").read_text())
    told["model"]["merges"] = told["model"]["merges"][::-1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="characters first, then merges in order"):
        FastTokeniser(Fast(size=300), 8, 3).load(tmp_path)
