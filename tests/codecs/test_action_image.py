"""A vector written as a latent frame comes back, whatever its size; noise on the frame is averaged away."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossroads.codecs.action_image import frame_from_vector, vector_from_frame
from crossroads.errors import InputError

FRAMES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))


@given(frame=FRAMES, steps=st.integers(1, 9), size=st.integers(1, 9))
def test_a_vector_that_fits_comes_back_and_fills_the_frame(frame: tuple[int, int, int], steps: int, size: int) -> None:
    vector = torch.arange(2.0 * steps * size).reshape(2, steps, size) - 3
    if steps * size > math.prod(frame):
        with pytest.raises(InputError, match="numbers"):
            frame_from_vector(vector, frame)
        return
    written = frame_from_vector(vector, frame)
    assert written.shape == (2, *frame)
    assert set(written.flatten().tolist()) == set(vector.flatten().tolist())
    torch.testing.assert_close(vector_from_frame(written, (steps, size)), vector)


def test_reading_averages_whole_copies_and_ignores_the_one_that_was_cut_off() -> None:
    frame = frame_from_vector(torch.tensor([[1.0, 2.0, 3.0]]), (1, 2, 4))  # two copies and two numbers of a third
    frame[0, 0, 0, 0] += 4.0
    frame[0, 0, 1, 2:] = 1e6
    assert vector_from_frame(frame, (3,)).tolist() == [[3.0, 2.0, 3.0]]


def test_a_value_fills_its_frame_and_is_the_mean_of_it() -> None:
    frame = frame_from_vector(torch.tensor([[0.25], [-1.0]]), (4, 3, 2))
    assert bool((frame[0] == 0.25).all())
    noise = torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vector_from_frame(frame + noise, (1,))[:, 0], (frame + noise).mean(dim=(1, 2, 3)))
