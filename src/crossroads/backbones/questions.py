"""Questions about a frame whose answers the simulator knows: what the nano language model learns from.

Places are answered in image bins, as PaliGemma does (arXiv 2407.07726); a caption names things with their places, as
its "detect" task does. Nearly half of the questions are bare instructions, answered with the place of the thing they
name: the prompt that a policy will be given is one the model has seen.
"""

from __future__ import annotations

import re

import numpy as np

from crossroads.backbones.clips import CAMERA, Clip
from crossroads.data.language import EpisodeWords, Question
from crossroads.recipes.nano import NUM_PLACES
from crossroads.sim.tabletop.scene import COLOURS

KINDS = ("instruction", "where", "caption", "match")
SHARES = (0.45, 0.3, 0.15, 0.1)
CAPTION_THINGS = 3
NEAR_BINS = 1
NEAR_M = 0.04
"""A hand this near to a thing, seen from above, has come to it."""


def place(uv: np.ndarray) -> str:
    """An image place in words: column bin, then row bin."""
    column, row = (int(np.clip(value * NUM_PLACES, 0, NUM_PLACES - 1)) for value in uv)
    return f"<x{column}> <y{row}>"


def places(text: str) -> list[tuple[int, int]]:
    """The places that a text names: column bin, row bin."""
    return [(int(x), int(y)) for x, y in re.findall(r"<x(\d+)> <y(\d+)>", text)]


def is_right(given: str, answer: str) -> bool:
    """Whether a text says what it should; a place may be one bin off on either axis."""
    truth, told = places(answer), places(given)
    if not truth:
        return given.strip() == answer.strip()
    return len(told) == 1 and max(abs(a - b) for a, b in zip(told[0], truth[0], strict=True)) <= NEAR_BINS


def visible(clip: Clip) -> list[str]:
    """The things that have a colour in their name and whose centre lies in the picture."""
    inside = [(0 <= uv[0] < 1 and 0 <= uv[1] < 1) for uv in clip.pixels[0]]
    return [name for name, seen in zip(clip.names, inside, strict=True) if seen]


def named_place(clip: Clip, step: int, question: str) -> np.ndarray | None:
    """Where in the picture the one thing is that a question names (its first, for two); None for other questions."""
    if question.endswith("can you ?") or question.startswith("what"):
        return None
    places = [(question.find(name), name) for name in clip.names if name in question]
    return clip.pixels[step][clip.names.index(min(places)[1])] if places else None


def ask(clip: Clip, step: int, rng: np.random.Generator) -> tuple[str, str]:
    """A question about one frame, and its answer."""
    kind = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
    return ask_kind(kind, clip, step, rng)


def ask_kind(kind: str, clip: Clip, step: int, rng: np.random.Generator) -> tuple[str, str]:
    """A question of one kind."""
    pixels = dict(zip(clip.names, clip.pixels[step], strict=True))
    names = visible(clip)
    if kind == "instruction" and clip.target in pixels:
        return clip.text, place(pixels[clip.target])
    if kind == "match":
        return _match(clip, rng)
    if kind == "caption":
        some = rng.permutation(names)[:CAPTION_THINGS]
        return "what is where ?", " ".join(f"{name} {place(pixels[name])}" for name in some)
    name = names[int(rng.integers(len(names)))]
    return f"where is the {name} ?", place(pixels[name])


def _match(clip: Clip, rng: np.random.Generator) -> tuple[str, str]:
    """Whether this scene admits an instruction; half of the instructions name a thing that is not there."""
    text = (clip.text, *clip.others)[int(rng.integers(1 + len(clip.others)))]
    named = [name for name in clip.names if name in text]
    if not named or rng.random() < 0.5:
        return f"{text} . can you ?", "yes"
    shape = named[0].split()[-1]
    absent = [f"{colour} {shape}" for colour in COLOURS if f"{colour} {shape}" not in clip.names]
    return f"{text.replace(named[0], absent[int(rng.integers(len(absent)))])} . can you ?", "no"


def words(clip: Clip, *, fps: float, seed: int) -> EpisodeWords:
    """What a recording says of an episode: one question about every frame, and its subtasks, from the true state."""
    rng = np.random.default_rng((seed, 7))
    asked = [(step, *ask(clip, step, rng)) for step in range(len(clip.frames) if visible(clip) else 0)]
    questions = (Question(frame=step, camera=CAMERA, question=told, answer=answer) for step, told, answer in asked)
    return EpisodeWords(subtasks=_subtasks(clip, fps), questions=tuple(questions))


def _subtasks(clip: Clip, fps: float) -> tuple[tuple[float, str], ...]:
    """First to the thing that the instruction names, from far above it or beside it; then what is to be done there."""
    if clip.target not in clip.names:
        return ((0.0, clip.text),)
    apart = clip.hand[:, :2] - clip.positions[:, clip.names.index(clip.target), :2]
    near = np.flatnonzero(np.linalg.norm(apart, axis=1) < NEAR_M)
    way = ((0.0, f"move to the {clip.target}"),)
    if not len(near):
        return way
    there = ((int(near[0]) / fps, clip.text),)
    return there if not near[0] else (*way, *there)
