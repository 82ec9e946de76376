"""HULC: Play-LMP whose plan is a set of choices, read by a transformer, and whose gripper is open or shut.

Mees et al. 2022, arXiv 2204.06252; lukashermann/hulc (MIT). The divergence moves the proposal more than what it is to
propose; at published size motions are told in the frame of the hand, by a decoder that sees the gripper's camera alone.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.recipe import Recipe
from crossroads.recipes.play_lmp import play_lmp
from crossroads.recipes.play_lmp_sizes import HULC_NANO, PlaySize

DEPARTS = (
    "No contrast of windows and words beside the other losses (published weight 3): what it asks of a sample depends "
    "on the others of its batch.",
    "Pictures are not shifted in training.",
)


def hulc(size: PlaySize = HULC_NANO) -> Recipe:
    """HULC at one of its sizes."""
    told = replace(size, departs=(*size.departs, *DEPARTS))
    return play_lmp(told, name="hulc", paper="Mees et al. 2022, arXiv 2204.06252")
