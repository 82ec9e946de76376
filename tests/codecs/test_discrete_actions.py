"""Actions in a language model's vocabulary: there and back within a bound, whatever is written means some chunk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nano_batch import nano_batch, statistics
from torch import Tensor

from crossroads.codecs.action_bins import ActionBins
from crossroads.codecs.action_text import ActionText
from crossroads.codecs.beast import Beast, BeastTokeniser
from crossroads.codecs.discrete_actions import DiscreteActionCodec, DiscreteActions
from crossroads.codecs.fast import Fast
from crossroads.codecs.text import END, PAD, TextCodec, TextTokens, Vocabulary
from crossroads.errors import InputError
from crossroads.recipes.pi0_fast import NANO, pi0_fast

STEPS, SIZE = 12, 4
WORDS = Vocabulary(words=(",", "push"))
TOKENISERS = {
    "bins": ActionBins(size=200),
    "beast": Beast(num_points=6, degree=3, size=200),
    "fast": Fast(size=200),
    "text": ActionText(vocabulary=WORDS),
}
EACH = st.sampled_from(sorted(TOKENISERS))


def codec_of(name: str, **changes: Any) -> DiscreteActionCodec:
    """A codec for chunks of unit scale."""
    spec = DiscreteActions(
        num_actions=STEPS,
        action_size=SIZE,
        control_hz=10.0,
        tokeniser=TOKENISERS[name],
        vocabulary=WORDS,
        last=None if name == "text" else WORDS.size - 1,
        normaliser="none",
    )
    codec = DiscreteActionCodec(replace(spec, **changes), 8)
    codec.through(TextCodec(TextTokens(vocabulary=WORDS, max_tokens=8), 8))
    return codec


def smooth(seed: int, num: int = 6) -> Tensor:
    """Chunks that move as robots do: three waves in each dimension, between -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, STEPS)[:, None, None]
    waves = torch.randn(num, 1, SIZE, 3, generator=generator) / 6
    return (waves * torch.cos(time * torch.tensor([0.0, 2.0, 5.0]))).sum(dim=-1).clamp(-1, 1)


def written(codec: DiscreteActionCodec, chunks: Tensor) -> Tensor:
    """The pieces of some chunks, padded."""
    batch = nano_batch(pi0_fast(), size=len(chunks))
    everywhere = torch.ones(chunks.shape[:2], dtype=torch.bool)
    return codec.target(replace(batch, actions=chunks, actions_valid=everywhere)).values


BOUNDS = {"bins": 2 / 199, "fast": 0.5 / 10, "text": 0.5 / 100}
"""Of the root mean square error: half a bin and a whole one at the end; half a step, which an orthonormal transform
keeps; half an integer."""


@settings(max_examples=30)
@given(name=st.sampled_from(sorted(BOUNDS)), seed=st.integers(0, 10_000))
def test_a_chunk_comes_back_within_half_a_step(name: str, seed: int) -> None:
    codec, chunks = codec_of(name), smooth(seed)
    codec.fit(chunks)
    error = codec.decode(written(codec, chunks)) - chunks
    assert error.flatten(1).pow(2).mean(dim=1).sqrt().max() <= BOUNDS[name] + 1e-6


@settings(max_examples=25)
@given(name=EACH, rows=st.lists(st.lists(st.integers(0, WORDS.size - 1), min_size=5, max_size=5), min_size=1))
def test_whatever_is_written_means_a_finite_chunk(name: str, rows: list[list[int]]) -> None:
    codec = codec_of(name)
    chunk = codec.decode(torch.tensor(rows))
    assert chunk.shape == (len(rows), STEPS, SIZE)
    assert chunk.isfinite().all()


@given(name=EACH, seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_nonsense_means_zeros_in_unit_scale(name: str, seed: int) -> None:
    """One token too few, one too many, a word among them, the words around them left out."""
    codec, chunks = codec_of(name), smooth(seed, 1)
    codec.fit(chunks)
    codec.normaliser.fit(statistics((3.0,) * 4, (1.0,) * 4), "mean_std")
    pieces = [one for one in codec.pieces(codec.tokens.encode(chunks)[0]) if one != END]
    number = [*codec.spec.vocabulary.bare(","), *codec.spec.vocabulary.bare("7")] if name == "text" else pieces[:1]
    shorter = pieces[: len(pieces) // 2] if name == "text" else pieces[:-1]
    for spoilt in (shorter, [*pieces, *number], []):
        assert torch.equal(codec.decode(torch.tensor([[*spoilt, END]])), torch.full((1, STEPS, SIZE), 3.0))
    if name != "text":
        assert torch.equal(codec.decode(torch.tensor([[*pieces[:-1], PAD, END]])), torch.full((1, STEPS, SIZE), 3.0))
    around = codec_of(name, before="push", normaliser="none")
    assert not around.decode(torch.tensor([[*pieces, END]])).any()


@pytest.mark.parametrize("name", sorted(TOKENISERS))
def test_tokens_stand_between_their_words_and_are_the_last_of_the_vocabulary(name: str) -> None:
    codec = codec_of(name, before="push", after=", push")
    chunks = smooth(1)
    codec.fit(chunks)
    (push,), comma = WORDS.bare("push"), WORDS.bare(",")
    for row in written(codec, chunks).tolist():
        row = row[: row.index(END) + 1]
        assert (row[0], row[-3:]) == (push, [*comma, push, END])
        if name != "text":
            assert all(WORDS.size - TOKENISERS[name].size <= piece < WORDS.size for piece in row[1:-3])
    free = codec_of(name)
    free.fit(chunks)
    torch.testing.assert_close(codec.decode(written(codec, chunks)), free.decode(written(free, chunks)))


@pytest.mark.parametrize("name", sorted(TOKENISERS))
def test_a_chunk_never_takes_more_pieces_than_are_counted(name: str) -> None:
    codec = codec_of(name)
    codec.fit(smooth(2))
    assert written(codec, smooth(2)).shape[1] <= codec.spec.num_tokens("noised")
    with pytest.raises(InputError, match=r"at most 3 pieces.*Raise `most`"):
        written(codec_of(name, most=3), smooth(2))


def test_the_end_of_an_episode_is_held_and_a_sample_without_actions_owes_nothing() -> None:
    codec, batch = codec_of("bins"), nano_batch(pi0_fast())
    valid = batch.actions_valid.clone()
    valid[0] = False
    latent = codec.target(replace(batch, actions_valid=valid))
    assert latent.valid.any(dim=1).tolist() == [False, True]
    back, last = codec.decode(latent.values)[1], int(valid[1].sum()) - 1
    assert torch.equal(back[last:], back[last].expand_as(back[last:]))
    torch.testing.assert_close(back[: last + 1], batch.actions[1, : last + 1].clamp(-1, 1), atol=2 / 199, rtol=0)


@pytest.mark.parametrize("name", ["beast", "fast"])
def test_what_was_fitted_is_saved_with_the_weights(name: str) -> None:
    codec, other, chunks = codec_of(name), codec_of(name), smooth(3)
    codec.fit(chunks)
    assert not torch.equal(written(codec, chunks), written(other, chunks))
    other.load_state_dict(codec.state_dict())
    assert torch.equal(written(codec, chunks), written(other, chunks))
    for module in (codec.tokeniser, codec_of(name).tokeniser):
        module.reset()  # pyright: ignore[reportCallIssue]
    assert all(torch.equal(one, codec_of(name).state_dict()[key]) for key, one in codec.state_dict().items())


def test_room_for_the_tokens_and_text_of_the_same_vocabulary_are_asked_for() -> None:
    with pytest.raises(InputError, match=r"room for 192 tokens.*got 100"):
        replace(NANO.action, last=100)
    with pytest.raises(InputError, match="None where actions are plain text"):
        replace(NANO.action, last=None)
    with pytest.raises(InputError, match="plain text of that vocabulary"):
        replace(NANO.action, last=None, tokeniser=ActionText(vocabulary=WORDS))


# Bins


def test_bins_are_openvlas() -> None:
    """Edges -1 and 1 and everything beyond them; the centre of a bin is nowhere further than half its width."""
    codec = codec_of("bins", num_actions=1, tokeniser=ActionBins())
    chunk = torch.tensor([[[-7.0, -1.0, 1.0, 0.0]]])
    (tokens,) = codec.tokens.encode(chunk)
    assert tokens == [0, 0, 255, 127]
    centres = codec.tokens.decode([tokens], 1, SIZE)[0, 0]
    torch.testing.assert_close(centres, torch.tensor([-254.0, -254.0, 254.0, 0.0]).double() / 255)


# Plain text


def test_text_is_lists_of_whole_centimetres() -> None:
    codec = codec_of("text", num_actions=2, action_size=3)
    chunk = torch.tensor([[[0.05, 0.004, -0.026], [0.0, 1.0, -0.1]]])
    assert codec.tokeniser.words(chunk) == ["[[5, 0, -3], [0, 100, -10]]"]  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(codec.decode(written(codec, chunk)), (chunk * 100).round() / 100)


# BEAST


def test_splines_are_a_partition_of_one_that_reproduces_polynomials() -> None:
    """B-splines of degree 3 hold every cubic, so the least-squares fit of one leaves nothing."""
    beast = BeastTokeniser(Beast(num_points=6, degree=3, num_steplike=1), 40, 2)
    time = torch.linspace(-1, 1, 40)
    chunk = torch.stack([time**3 - time, (time > 0).float()], dim=-1)[None]
    back = beast.curve(beast.points(chunk), 40)
    torch.testing.assert_close(back, chunk.double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(beast.curve(torch.ones(1, 2, 6), 40).float(), torch.ones(1, 40, 2))


def test_a_spline_begins_where_the_robot_is_and_its_gripper_where_it_says() -> None:
    beast = BeastTokeniser(Beast(num_points=6, degree=3, num_steplike=1), STEPS, SIZE)
    points = torch.randn(2, SIZE, 6, generator=torch.Generator().manual_seed(0))
    start = torch.tensor([[0.1, 0.2, 0.3, 9.0]]).expand(2, -1)
    joined, free = beast.curve(points, STEPS, start), beast.curve(points, STEPS)
    torch.testing.assert_close(joined[:, 0, :3].float(), start[:, :3])
    torch.testing.assert_close(joined[:, :, 3], free[:, :, 3])
    torch.testing.assert_close(joined[:, -1], free[:, -1])


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_quantised_splines_are_half_a_step_from_the_fit_and_within_the_bounds(seed: int) -> None:
    """B-splines are positive and add up to one, so a curve is no further off than its furthest control point."""
    codec, chunks = codec_of("beast"), smooth(seed)
    codec.fit(chunks)
    beast = codec.tokeniser
    assert isinstance(beast, BeastTokeniser)
    fitted, back = beast.curve(beast.points(chunks), STEPS), codec.decode(written(codec, chunks))
    assert (back - fitted).abs().max() <= 0.5 * (beast.high - beast.low).max() / 199 + 1e-4
    wild = codec.decode(written(codec, 100 * chunks))
    assert wild.max() <= beast.high.max() + 1e-5
    assert wild.min() >= beast.low.min() - 1e-5


def test_bounds_only_ever_widen_and_not_for_nothing() -> None:
    codec = codec_of("beast")
    beast = codec.tokeniser
    assert isinstance(beast, BeastTokeniser)
    codec.fit(smooth(4))
    low, high = beast.low.clone(), beast.high.clone()
    codec.fit(0.5 * smooth(4))
    assert torch.equal(beast.low, low)
    codec.fit(2 * smooth(4))
    assert (beast.low <= low).all()
    assert (beast.high > high).any()
    with pytest.raises(InputError, match=r"Beast.degree.*0 to 5"):
        Beast(num_points=6, degree=6)
