"""Voltron's network: what training hides is not seen, words are written in order; its fixed places."""

from __future__ import annotations

import torch

from crossroads.codecs.voltron import Voltron, VoltronNet, painted, square_places, written

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


def made(seed: int = 0) -> tuple[VoltronNet, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    net = VoltronNet(SPEC).eval()
    drawn = torch.rand(2, SPEC.num_patches)
    spoken = torch.ones(2, SPEC.max_words, dtype=torch.bool)
    return net, torch.randn(2, 2, 3, 16, 16), torch.randn(2, SPEC.max_words, 6), spoken, drawn


@torch.no_grad()
def test_hidden_pixels_change_nothing_and_shown_ones_do() -> None:
    net, pictures, words, spoken, drawn = made()
    found = net.masked(pictures, words, spoken, drawn)
    assert found.hidden.sum(dim=1).tolist() == [SPEC.num_patches - SPEC.num_shown] * 2
    assert SPEC.num_shown == 4
    hidden = found.hidden.reshape(2, 1, 1, 4, 4).repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)
    for mask, same in ((hidden, True), (1 - hidden, False)):
        other = net.masked(pictures + mask, words, spoken, drawn)
        assert torch.equal(other.states, found.states) == same


@torch.no_grad()
def test_a_word_is_written_from_those_before_it_alone() -> None:
    net, pictures, words, spoken, drawn = made()
    found = net.masked(pictures, words, spoken, drawn)
    changed = words.clone()
    changed[:, 2] += 1
    one, other = (net.decoded(found, told, spoken) for told in (words, changed))
    torch.testing.assert_close(one[1][:, :2], other[1][:, :2])
    assert not torch.allclose(one[1][:, 2:], other[1][:, 2:])
    torch.testing.assert_close(one[0], other[0])


@torch.no_grad()
def test_the_right_pixels_and_words_cost_nothing() -> None:
    _, pictures, *_ = made()
    rows = pictures.unfold(3, 4, 4).unfold(4, 4, 4)
    pixels = rows.permute(0, 1, 3, 4, 5, 6, 2).reshape(2, 2, 16, 48)
    scaled = (pixels - pixels.mean(dim=-1, keepdim=True)) / (pixels.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    hidden = torch.ones(2, 16)
    torch.testing.assert_close(painted(SPEC, pictures, scaled, hidden), torch.zeros(2))
    words = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    scores = torch.full((2, 4, 9), -50.0).scatter(2, words.roll(-1, dims=1)[..., None], 50.0)
    there = torch.ones(2, 4, dtype=torch.bool)
    assert written(scores, words, there, torch.ones(2)).item() < 1e-6
    assert written(scores, words.flip(1), there, torch.tensor([1.0, 0.0])).item() > 1


def test_places_of_a_square_are_all_different_and_tell_the_column_first() -> None:
    places = square_places(16, 4)
    assert len(torch.unique(places, dim=0)) == 16
    assert torch.equal(places[0, 8:], places[3, 8:])  # one row
    assert torch.equal(places[0, :8], places[12, :8])  # one column
