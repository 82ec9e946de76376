"""Every recipe by name; a dictionary literal, so that what exists can be read in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crossroads.errors import InputError, nearest
from crossroads.recipe import Recipe
from crossroads.recipes.cloning import cloning
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm, fast_wam_joint
from crossroads.recipes.nano_video import nano_video
from crossroads.recipes.nano_vlm import nano_vlm
from crossroads.recipes.pi0 import pi0

RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "cloning": cloning,
    "fast_wam": fast_wam,
    "fast_wam_idm": fast_wam_idm,
    "fast_wam_joint": fast_wam_joint,
    "nano_video": nano_video,
    "nano_vlm": nano_vlm,
    "pi0": pi0,
}


def recipe(name: str) -> Recipe:
    """The recipe of a name, or an error that suggests the nearest."""
    if name not in RECIPES:
        raise InputError(where="recipe", expected="a known name", got=repr(name), do=nearest(name, RECIPES))
    return RECIPES[name]()
