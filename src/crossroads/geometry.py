"""Where cameras stand and where a robot's marks are: what is needed to draw a robot's next pose into its pictures.

Positions in metres in one world; a camera or a mark may move with numbers of the robot's state, along straight lines (a
wrist camera with the hand). What turns with the state is not described: such a robot's marks must be in its state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Vector = tuple[float, float, float]
Follows = tuple[tuple[str, Vector], ...]


def _moved(position_m: Vector, follows: Follows, state: Float[Tensor, "b s"], names: tuple[str, ...]) -> Tensor:
    """A position for each state, ``b 3``."""
    found = state.new_tensor(position_m).expand(len(state), 3)
    for name, along in follows:
        found = found + state[:, names.index(name), None] * state.new_tensor(along)
    return found


@dataclass(frozen=True, kw_only=True)
class CameraPose:
    """A pinhole camera: its ``right`` and ``up`` in the world, and the angle of a picture's height."""

    camera: str
    position_m: Vector
    right: Vector
    up: Vector
    fovy_deg: float
    follows: Follows = ()

    def seen(
        self,
        points: Float[Tensor, "b p 3"],
        state: Float[Tensor, "b s"],
        names: tuple[str, ...],
        image_hw: tuple[int, int],
    ) -> Float[Tensor, "b p 3"]:
        """Where points fall (right and down, 0 to 1 inside a picture), and how many picture heights a metre is there:
        0 behind the camera."""
        right, up = (torch.nn.functional.normalize(points.new_tensor(axis), dim=0) for axis in (self.right, self.up))
        axes = torch.stack([right, up, torch.linalg.cross(right, up)])  # it looks against the last one
        local = (points - _moved(self.position_m, self.follows, state, names)[:, None]) @ axes.T
        depth = -local[..., 2]
        size = 0.5 / math.tan(math.radians(self.fovy_deg) / 2) / depth.clamp(min=1e-6)
        size = torch.where(depth > 0, size, 0.0)
        u = 0.5 + size * local[..., 0] * image_hw[0] / image_hw[1]
        return torch.stack([u, 0.5 - size * local[..., 1], size], dim=-1)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point of the robot."""

    name: str
    position_m: Vector
    follows: Follows = ()


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The cameras and the marks of a robot, the gripper's last; it is open where ``gripper`` of the state is above
    ``open_above``."""

    cameras: tuple[CameraPose, ...]
    marks: tuple[Mark, ...]
    gripper: str
    open_above: float

    def needs(self) -> frozenset[str]:
        """The numbers of the state that it goes by."""
        parts = (*self.cameras, *self.marks)
        return frozenset({self.gripper, *(name for part in parts for name, _ in part.follows)})

    def drawn(
        self,
        now: Float[Tensor, "b s"],
        later: Float[Tensor, "b s"],
        names: tuple[str, ...],
        image_hw: tuple[int, int],
    ) -> dict[str, Float[Tensor, "b p 4"]]:
        """The marks of a later state as each camera of now sees them: right, down, picture heights per metre, and 1
        where the gripper is open then."""
        points = torch.stack([_moved(mark.position_m, mark.follows, later, names) for mark in self.marks], dim=1)
        is_open = (later[:, names.index(self.gripper)] > self.open_above).to(points.dtype)
        flags = is_open[:, None, None].expand(-1, len(self.marks), 1)
        return {
            pose.camera: torch.cat([pose.seen(points, now, names, image_hw), flags], dim=-1) for pose in self.cameras
        }

    def plain(self) -> dict[str, object]:
        """As JSON holds it."""
        return {
            "cameras": {
                one.camera: {
                    "position_m": list(one.position_m),
                    "right": list(one.right),
                    "up": list(one.up),
                    "fovy_deg": one.fovy_deg,
                    "follows": {name: list(along) for name, along in one.follows},
                }
                for one in self.cameras
            },
            "marks": {
                one.name: {
                    "position_m": list(one.position_m),
                    "follows": {name: list(along) for name, along in one.follows},
                }
                for one in self.marks
            },
            "gripper": {"state": self.gripper, "open_above": self.open_above},
        }


def geometry_of(plain: Mapping[str, Mapping[str, Mapping[str, object]]]) -> Geometry:
    """The way back from :meth:`Geometry.plain`; ``KeyError``, ``TypeError`` or ``ValueError`` where something is not
    as it writes it."""

    def vector(value: object) -> Vector:
        first, second, third = (float(number) for number in value)  # pyright: ignore[reportGeneralTypeIssues]
        return first, second, third

    def follows(part: Mapping[str, object]) -> Follows:
        return tuple((name, vector(along)) for name, along in dict(part.get("follows") or {}).items())  # pyright: ignore

    return Geometry(
        cameras=tuple(
            CameraPose(
                camera=name,
                position_m=vector(part["position_m"]),
                right=vector(part["right"]),
                up=vector(part["up"]),
                fovy_deg=float(part["fovy_deg"]),  # pyright: ignore[reportArgumentType]
                follows=follows(part),
            )
            for name, part in plain["cameras"].items()
        ),
        marks=tuple(
            Mark(name=name, position_m=vector(part["position_m"]), follows=follows(part))
            for name, part in plain["marks"].items()
        ),
        gripper=str(plain["gripper"]["state"]),
        open_above=float(plain["gripper"]["open_above"]),  # pyright: ignore[reportArgumentType]
    )
