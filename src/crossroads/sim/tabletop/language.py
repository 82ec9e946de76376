"""The words of the table: one plain sentence per task, paraphrases of it, and the compositions kept for testing.

A (colour, shape, verb) composition that `is_held_out` names is never asked for in the training split, although its
colour, its shape and its verb are all seen with others: it tests whether words are composed or memorised.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from crossroads.sim.tabletop.scene import COLOURS, SHAPES

SIDE = {"left": "to the left", "right": "to the right", "back": "to the back", "front": "to the front"}

# The first wording is the plain one; the last of each list is kept for testing unseen wordings.
WORDINGS: dict[str, tuple[str, ...]] = {
    "reach": (
        "reach the {target}",
        "go to the {target}",
        "move the hand over the {target}",
        "point at the {target}",
        "hover above the {target}",
    ),
    "push": (
        "push the {target} {side}",
        "shove the {target} {side}",
        "move the {target} {side} by pushing it",
        "nudge the {target} {side}",
        "give the {target} a push {side}",
    ),
    "press": (
        "press the {target}",
        "push down the {target}",
        "hit the {target}",
        "press down on the {target}",
        "tap the {target}",
    ),
    "push_next": (
        "push the {target} next to the {argument}",
        "shove the {target} beside the {argument}",
        "nudge the {target} up to the {argument}",
        "push the {target} against the {argument}",
        "bring the {target} to the {argument} by pushing",
    ),
    "press_two": (
        "press the {target} and then the {argument}",
        "push down the {target} first and the {argument} second",
        "hit the {target} and after that the {argument}",
        "press the {target} before the {argument}",
    ),
    "pick": (
        "pick up the {target}",
        "lift the {target}",
        "grab the {target} and raise it",
        "take the {target}",
        "raise the {target} off the table",
    ),
    "place_in": (
        "put the {target} in the {argument}",
        "place the {target} into the {argument}",
        "drop the {target} in the {argument}",
        "move the {target} into the {argument}",
        "the {target} belongs in the {argument}",
    ),
    "place_next": (
        "put the {target} down next to the {argument}",
        "place the {target} beside the {argument}",
        "lift the {target} and set it down by the {argument}",
        "carry the {target} over to the {argument}",
    ),
    "stack": (
        "stack the {target} on the {argument}",
        "put the {target} on top of the {argument}",
        "place the {target} onto the {argument}",
        "set the {target} upon the {argument}",
    ),
    "open_drawer": (
        "open the drawer",
        "pull the drawer out",
        "pull the handle of the drawer",
        "slide the drawer open",
    ),
    "close_drawer": (
        "close the drawer",
        "push the drawer in",
        "shut the drawer",
        "slide the drawer shut",
    ),
    "slide": (
        "move the slider {side}",
        "slide the knob {side}",
        "push the slider {side}",
        "shift the slider {side}",
    ),
    "sort_two": (
        "put the {first} in the {first_bin} and the {second} in the {second_bin}",
        "sort the {first} into the {first_bin} and the {second} into the {second_bin}",
        "place the {first} in the {first_bin} then the {second} in the {second_bin}",
        "the {first} belongs in the {first_bin} and the {second} in the {second_bin}",
    ),
}
SYNONYMS = {"cube": "block", "cylinder": "can", "ball": "sphere", "bin": "tray"}


def can_be_held_out(family: str) -> bool:
    """Whether a verb is asked of coloured things at all."""
    return any(slot in WORDINGS[family][0] for slot in ("{target}", "{first}"))


@functools.cache
def is_held_out(family: str, target: str) -> bool:
    """Whether any composition of colour, shape and verb in ``target`` is kept for testing (one in six is)."""
    verbs = tuple(WORDINGS)
    shapes = (*SHAPES, "button", "bin")
    for colour, shape in re.findall(rf"({'|'.join(COLOURS)}) ({'|'.join(shapes)})", target):
        index = tuple(COLOURS).index(colour) + 2 * shapes.index(shape) + verbs.index(family)
        if index % 6 == 0:
            return True
    return False


def _fill(wording: str, target: str, argument: str) -> str:
    first, _, second = target.partition(" and ")
    first_bin, _, second_bin = argument.partition(" and ")
    return wording.format(
        target=target,
        argument=argument,
        side=SIDE.get(argument, ""),
        first=first,
        second=second,
        first_bin=first_bin,
        second_bin=second_bin,
    )


def plain(family: str, target: str, argument: str) -> str:
    """The canonical sentence of a task."""
    return _fill(WORDINGS[family][0], target, argument)


def paraphrase(family: str, target: str, argument: str, rng: np.random.Generator, *, unseen: bool = False) -> str:
    """Another way to say it: a drawn wording, object words sometimes replaced; ``unseen`` takes the kept wording."""
    wordings = WORDINGS[family]
    wording = wordings[-1] if unseen else wordings[int(rng.integers(len(wordings) - 1))]
    text = _fill(wording, target, argument)
    for word, synonym in SYNONYMS.items():
        if rng.random() < 0.3:
            text = re.sub(rf"\b{word}\b", synonym, text)
    return text


def vocabulary() -> tuple[str, ...]:
    """Every word that an instruction can hold, sorted."""
    words: set[str] = {*COLOURS, *SHAPES, *SYNONYMS.values(), "button", "bin", "drawer", "slider", "and"}
    for wordings in WORDINGS.values():
        for wording in wordings:
            words.update(re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", wording)))
    for side in SIDE.values():
        words.update(side.split())
    return tuple(sorted(words))
