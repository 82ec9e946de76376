"""What stands where at the start of an episode: sampled from a seed, pure numbers, no physics.

Objects never repeat a (colour, shape) pair in a scene, but share colours and share shapes, so that an instruction
needs both words. The kind of scene (buttons, bins, drawer, slider) follows from the family that was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crossroads.sim.tabletop.scene import (
    COLOURS,
    DRAWER_FACE_Y,
    DRAWER_TRAVEL_M,
    NUM_BINS,
    NUM_BUTTONS,
    NUM_OBJECTS,
    SHAPES,
    SLIDER_TRAVEL_M,
    SLIDER_Y,
)

KINDS = ("buttons", "bins", "drawer", "slider")
HALF_SIZE_M = {"cube": 0.0235, "cylinder": 0.0215, "ball": 0.0255}
OBJECT_REACH_M = 0.155
"""Objects start with their centre inside this square, so that a hand fits between them and the edge."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object or fixture: ``name`` is what an instruction calls it."""

    colour: str
    shape: str
    x: float
    y: float
    yaw: float = 0.0
    half_size: float = 0.024
    """Half of the width (the radius of a round thing)."""

    @property
    def half_height(self) -> float:
        # Cylinders stand taller than wide, so that 6 pixels tell them from balls.
        return self.half_size * (1.3 if self.shape == "cylinder" else 1.0)

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}" if self.colour else self.shape

    @property
    def xy(self) -> np.ndarray:
        return np.array((self.x, self.y))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The start of an episode."""

    kind: str
    objects: tuple[Thing, ...]
    buttons: tuple[Thing, ...] = ()
    bins: tuple[Thing, ...] = ()
    drawer: Thing | None = None
    drawer_open_m: float = 0.0
    slider: Thing | None = None
    slider_m: float = 0.0
    hand: tuple[float, float, float] = (0.0, 0.0, 0.15)

    @property
    def fixtures(self) -> tuple[Thing, ...]:
        single = tuple(thing for thing in (self.drawer, self.slider) if thing is not None)
        return self.buttons + self.bins + single

    @property
    def things(self) -> tuple[Thing, ...]:
        return self.objects + self.fixtures

    @cached_property
    def _by_name(self) -> dict[str, Thing]:
        return {thing.name: thing for thing in reversed(self.things)}

    def thing(self, name: str) -> Thing:
        return self._by_name[name]


def far_enough(x: float, y: float, shape: str, other: Thing) -> bool:
    """Whether a new thing at (x, y) leaves a gripper's room beside ``other``."""
    dx, dy = abs(x - other.x), abs(y - other.y)
    shapes = {shape, other.shape}
    if other.shape == "drawer":
        # Everything in front of a drawer must stay clear of the opened bar and of the hand that pulls it.
        return dx > 0.10 or y < DRAWER_FACE_Y - DRAWER_TRAVEL_M - 0.135
    if other.shape == "slider":
        return y < SLIDER_Y - 0.085
    if shapes == {"bin"}:
        return max(dx, dy) > 0.115
    if "bin" in shapes:
        return max(dx, dy) > 0.105
    return bool(np.hypot(dx, dy) > (0.085 if "button" in shapes else 0.095))


def _names(rng: np.random.Generator, num: int) -> list[tuple[str, str]]:
    """Distinct (colour, shape) pairs; mostly with a shared colour, and by count often with a shared shape."""
    colours = list(COLOURS)
    first = (colours[rng.integers(len(colours))], SHAPES[rng.integers(3)])
    pairs: list[tuple[str, str]] = [first]
    if rng.random() < 0.6:
        shape = SHAPES[(SHAPES.index(first[1]) + int(rng.integers(1, 3))) % 3]
        pairs.append((first[0], shape))
    while len(pairs) < num:
        pair = (colours[rng.integers(len(colours))], SHAPES[rng.integers(3)])
        if pair not in pairs:
            pairs.append(pair)
    rng.shuffle(pairs)
    return pairs


def _spots(rng: np.random.Generator, placed: list[Thing], shape: str, reach: float) -> Iterator[tuple[float, float]]:
    for _ in range(60):
        x, y = rng.uniform(-reach, reach, size=2).tolist()
        if all(far_enough(x, y, shape, other) for other in placed):
            yield x, y


def _place(rng: np.random.Generator, placed: list[Thing], colour: str, shape: str, reach: float) -> Thing | None:
    for x, y in _spots(rng, placed, shape, reach):
        thing = Thing(
            colour=colour,
            shape=shape,
            x=x,
            y=y,
            yaw=float(rng.uniform(-0.25, 0.25)) if shape == "cube" else 0.0,
            half_size=HALF_SIZE_M.get(shape, 0.024) * float(rng.uniform(0.96, 1.04)),
        )
        placed.append(thing)
        return thing
    return None


def _try_layout(rng: np.random.Generator, kind: str) -> Layout | None:
    placed: list[Thing] = []
    colours = list(COLOURS)
    rng.shuffle(colours)
    drawer = slider = None
    drawer_open_m = slider_m = 0.0
    if kind == "drawer":
        drawer = Thing(colour="", shape="drawer", x=float(rng.uniform(-0.12, 0.12)), y=DRAWER_FACE_Y)
        drawer_open_m = DRAWER_TRAVEL_M - 0.005 if rng.random() < 0.5 else 0.0
        placed.append(drawer)
    if kind == "slider":
        slider = Thing(colour="", shape="slider", x=float(rng.uniform(-0.08, 0.08)), y=SLIDER_Y)
        slider_m = float(rng.uniform(-0.25, 0.25) * SLIDER_TRAVEL_M)
        placed.append(slider)
    num_bins = NUM_BINS if kind == "bins" else 0
    num_buttons = int(rng.integers(2, NUM_BUTTONS + 1)) if kind == "buttons" else (0 if kind == "bins" else 1)
    num_objects = int(rng.integers(3, (NUM_OBJECTS if kind == "buttons" else NUM_OBJECTS - 1) + 1))
    bins = [_place(rng, placed, colours[i], "bin", 0.145) for i in range(num_bins)]
    buttons = [_place(rng, placed, colours[i], "button", 0.165) for i in range(num_buttons)]
    pairs = _names(rng, num_objects)
    objects = [_place(rng, placed, colour, shape, OBJECT_REACH_M) for colour, shape in pairs]
    if any(thing is None for thing in (*bins, *buttons, *objects)):
        return None
    hand = rng.uniform((-0.17, -0.17, 0.09), (0.17, 0.17, 0.13))
    return Layout(
        kind=kind,
        objects=tuple(thing for thing in objects if thing is not None),
        buttons=tuple(thing for thing in buttons if thing is not None),
        bins=tuple(thing for thing in bins if thing is not None),
        drawer=drawer,
        drawer_open_m=drawer_open_m,
        slider=slider,
        slider_m=slider_m,
        hand=(float(hand[0]), float(hand[1]), float(hand[2])),
    )


def sample_layout(rng: np.random.Generator, kind: str) -> Layout:
    """A scene of one kind; draws again until everything fits."""
    assert kind in KINDS, kind
    while True:
        layout = _try_layout(rng, kind)
        if layout is not None:
            return layout
