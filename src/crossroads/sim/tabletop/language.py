"""The words of the table: one plain sentence per task, paraphrases of it, and the compositions kept for testing.

A (colour, shape, verb) composition that `is_held_out` names is never asked for in the training split, although its
colour, its shape and its verb are all seen with others: it tests whether words are composed or memorised.
"""

from __future__ import annotations

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
}
SYNONYMS = {"cube": "block", "cylinder": "can", "ball": "sphere", "bin": "tray"}


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
    return wording.format(target=target, argument=argument, side=SIDE.get(argument, ""))


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
