"""`meta/geometry.json`: where a data set's cameras stand and where its robot's marks are (ours; LeRobot has no such
file)."""

from __future__ import annotations

import json
from pathlib import Path

from crossroads.data import meta
from crossroads.errors import InputError
from crossroads.geometry import Geometry, geometry_of

PATH = "meta/geometry.json"


def write_geometry(root: Path, geometry: Geometry) -> None:
    """Put the file into a data set."""
    meta.write_json(root / PATH, geometry.plain())


def read_geometry(root: Path, *, cameras: tuple[str, ...], state: tuple[str, ...], num_marks: int) -> Geometry:
    """The geometry of a data set.

    Raises:
        InputError: there is none, or it does not tell of these cameras, by these numbers of the state, so many marks.
    """
    path = root / PATH
    do = (
        f"Write {PATH}: `cameras` by name with position_m, right, up and fovy_deg, {num_marks} `marks` of the robot by "
        "name with position_m (the gripper's last), `follows` in either (metres along x, y and z for each unit of a "
        "number of the state), `gripper` with its state and open_above; `crossroads data record tabletop` writes one."
    )
    if not path.is_file():
        raise InputError(where=str(path), expected="where cameras and robot are", got="no such file", do=do)
    try:
        found = geometry_of(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            where=str(path), expected="a geometry", got=f"{type(error).__name__}: {error}", do=do
        ) from error
    missing = sorted(set(cameras) - {one.camera for one in found.cameras})
    unknown = sorted(found.needs() - set(state))
    if missing or unknown or len(found.marks) != num_marks:
        raise InputError(
            where=str(path),
            expected=f"cameras {', '.join(cameras)}, {num_marks} marks, numbers of the state {', '.join(state)}",
            got=f"without {missing}, {len(found.marks)} marks, by the unknown {unknown}",
            do=do,
        )
    return found
