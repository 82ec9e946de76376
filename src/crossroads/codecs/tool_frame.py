"""Small motions of a hand told in its own frame instead of the world's, and back.

HULC (arXiv 2204.06252; lukashermann/hulc, MIT): of an action the first three numbers are a shift, the next three a
change of the Euler angles X, Y, Z, counted in hundredths; what follows is kept.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SCALE = 0.01
"""Radians of one unit of turning."""


def to_tool(actions: Float[Tensor, "*b a"], angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b a"]:
    """Actions in the frame of a hand that stands at some angles."""
    hand = rotation(angles)
    shift = (hand.mT @ actions[..., :3, None]).squeeze(-1)
    turn = turned(rotation(angles + SCALE * actions[..., 3:6]).mT @ hand)
    return torch.cat([shift, wrapped(turn) / SCALE, actions[..., 6:]], dim=-1)


def to_world(actions: Float[Tensor, "*b a"], angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b a"]:
    """The inverse of :func:`to_tool`."""
    hand = rotation(angles)
    shift = (hand @ actions[..., :3, None]).squeeze(-1)
    turn = turned(hand @ rotation(SCALE * actions[..., 3:6]).mT) - angles
    return torch.cat([shift, wrapped(turn) / SCALE, actions[..., 6:]], dim=-1)


def rotation(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """``R_x R_y R_z``."""
    x, y, z = angles.float().unbind(dim=-1)
    one, none = torch.ones_like(x), torch.zeros_like(x)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))

    about_x = matrix(one, none, none, none, x.cos(), -x.sin(), none, x.sin(), x.cos())
    about_y = matrix(y.cos(), none, y.sin(), none, one, none, -y.sin(), none, y.cos())
    about_z = matrix(z.cos(), -z.sin(), none, z.sin(), z.cos(), none, none, none, one)
    return about_x @ about_y @ about_z


def turned(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """The angles of a rotation, the second between minus and plus a quarter turn."""
    x = torch.atan2(-matrix[..., 1, 2], matrix[..., 2, 2])
    y = matrix[..., 0, 2].clamp(-1, 1).asin()
    z = torch.atan2(-matrix[..., 0, 1], matrix[..., 0, 0])
    return torch.stack([x, y, z], dim=-1)


def wrapped(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Angles beyond half a turn, by one turn less."""
    return angles - 2 * math.pi * (angles > math.pi).float() + 2 * math.pi * (angles < -math.pi).float()
