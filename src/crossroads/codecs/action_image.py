"""A vector written as one latent frame, so that a video model predicts it without a change of architecture.

Cosmos Policy (arXiv 2601.16163; its inject and extract functions): the vector is flattened row by row, repeated until
the frame is full, cut off and reshaped ``(channel, row, column)``; reading takes the whole copies and averages them.
"""

from __future__ import annotations

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.errors import InputError


def frame_from_vector(vector: Float[Tensor, "b ..."], frame: tuple[int, int, int]) -> Float[Tensor, "b c h w"]:
    """Fill a latent frame ``(c, h, w)`` with copies of a vector of any shape (an action chunk, a state, a value).

    Raises:
        InputError: the vector is larger than the frame.
    """
    flat = vector.reshape(len(vector), -1)
    num_copies = _copies(flat.shape[1], frame, up=True)
    return flat.repeat(1, num_copies)[:, : math.prod(frame)].reshape(-1, *frame)


def vector_from_frame(frame: Float[Tensor, "b c h w"], shape: tuple[int, ...]) -> Float[Tensor, "b ..."]:
    """The mean of the whole copies of a vector in a latent frame; a copy that was cut off is not read.

    Raises:
        InputError: the vector is larger than the frame.
    """
    size = math.prod(shape)
    _, channels, rows, columns = frame.shape
    num_copies = _copies(size, (channels, rows, columns), up=False)
    whole = frame.flatten(1)[:, : num_copies * size]
    return rearrange(whole, "b (copies n) -> b copies n", n=size).mean(dim=1).reshape(-1, *shape)


def _copies(size: int, frame: tuple[int, int, int], *, up: bool) -> int:
    """How many copies of ``size`` numbers touch a frame, or fit into it whole."""
    room = math.prod(frame)
    if not 1 <= size <= room:
        raise InputError(
            where="a vector as a latent frame",
            expected=f"1 to {room} numbers, what a frame of {frame} (channels, rows, columns) holds",
            got=str(size),
            do="Shorten the action chunk or raise the image size.",
        )
    return -(-room // size) if up else room // size
