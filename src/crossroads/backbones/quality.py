"""What the backbones can do on held-out scenes, against trivial baselines: the numbers of the model card.

The linear probe asks the question that decides whether a hand can be guided: where is the thing that the instruction
names? Ridge regression from what a layer offers to an action expert (its values), the layer and the penalty chosen on
a part of the training clips, against the same regression from pixels and a bag of words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch

from crossroads.backbones.clips import CAMERA, Clip
from crossroads.backbones.questions import ask_kind, is_right
from crossroads.backbones.sources import clip_batch, observation
from crossroads.evaluate.video import VideoScore, compare
from crossroads.policy import StreamPolicy
from crossroads.recipes.nano import FUTURE_S, VOCABULARY
from crossroads.types import Batch


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Median distance, in cm, between where the named thing is and where a linear read-out says it is."""

    features: str
    median_cm: float
    mean_cm: float
    num_scenes: int


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Share of right answers of one kind of question; a place is right within one bin on both axes."""

    kind: str
    right: float
    chance: float
    num_questions: int


def probe_batch(clips: list[Clip], seed: int) -> tuple[Batch, np.ndarray]:
    """One early frame per clip, and the table position (metres, x and y) of the thing that its instruction names."""
    rng = np.random.default_rng(seed)
    places = [(index, int(rng.integers(min(4, len(clip.frames))))) for index, clip in enumerate(clips)]
    targets = [
        clips[index].positions[step][clips[index].names.index(clips[index].target)][:2] for index, step in places
    ]
    return clip_batch(clips, places), np.array(targets)


PROBE_SCENES = 3000
"""Fitting a ridge regression of twelve thousand inputs on more takes longer than it teaches."""


def probes(policy: StreamPolicy, group: str, train: list[Clip], held_out: list[Clip]) -> tuple[Probe, ...]:
    """The best layer of one group's values, and the pixel baseline."""
    known = [clip for clip in train[:PROBE_SCENES] if clip.target in clip.names]
    asked = [clip for clip in held_out if clip.target in clip.names]
    seen, y = probe_batch(known, 1)
    tested, y_test = probe_batch(asked, 2)
    layers, layers_test = _values(policy, group, seen), _values(policy, group, tested)
    cut = len(y) * 4 // 5
    scored = []
    for index, x in enumerate(layers):
        error, penalty = _ridge(x[:cut], y[:cut], x[cut:], y[cut:])
        scored.append((error, index, penalty))
    _, best, penalty = min(scored)
    (found,) = _fit(layers[best], y, layers_test[best], penalty)
    pixels, pixels_test = _pixels(seen), _pixels(tested)
    _, pixel_penalty = _ridge(pixels[:cut], y[:cut], pixels[cut:], y[cut:])
    (baseline,) = _fit(pixels, y, pixels_test, pixel_penalty)
    centre = np.broadcast_to(y.mean(axis=0), y_test.shape)
    return tuple(
        Probe(
            features=name,
            median_cm=_median_cm(guess, y_test),
            mean_cm=float(np.linalg.norm(guess - y_test, axis=1).mean() * 100),
            num_scenes=len(y_test),
        )
        for name, guess in (
            (f"{policy.recipe.name}, {group} tokens, values of layer {best}", found),
            ("pixels and bag of words", baseline),
            ("always the mean place", centre),
        )
    )


@torch.no_grad()
def _values(policy: StreamPolicy, group: str, batch: Batch, batch_size: int = 64) -> list[np.ndarray]:
    """Per layer, the flattened values of a group for every sample."""
    parts: list[list[np.ndarray]] = []
    names = policy.net.layout.needed([group])
    generator = torch.Generator().manual_seed(0)
    for start in range(0, batch.batch_size, batch_size):
        part = _slice(batch, start, start + batch_size)
        prepared = policy.prepare(part, names, generator)
        state = policy.net(policy.inputs(prepared, names, {}), {})[group]
        parts.append([value.flatten(1).numpy() for value in state.values])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _slice(batch: Batch, start: int, stop: int) -> Batch:
    obs = batch.obs
    return Batch(
        obs=type(obs)(
            images={name: image[start:stop] for name, image in obs.images.items()},
            state=obs.state[start:stop],
            text=obs.text[start:stop],
            robot=obs.robot[start:stop],
            time_s=obs.time_s[start:stop],
        ),
        actions=batch.actions[start:stop],
        actions_valid=batch.actions_valid[start:stop],
        future={name: frames[start:stop] for name, frames in batch.future.items()},
        future_valid=batch.future_valid[start:stop],
        later_state=batch.later_state[start:stop],
        later_state_valid=batch.later_state_valid[start:stop],
        value=batch.value[start:stop],
        answer=batch.answer[start:stop],
        weight=batch.weight[start:stop],
    )


def _pixels(batch: Batch) -> np.ndarray:
    picture = batch.obs.images[CAMERA].permute(0, 3, 1, 2).float() / 255
    small = torch.nn.functional.avg_pool2d(picture, 2).flatten(1).numpy()
    words = np.zeros((len(small), VOCABULARY.size), dtype=np.float32)
    for row, text in enumerate(batch.obs.text):
        words[row, VOCABULARY.encode(text)] = 1
    return np.concatenate([small, words], axis=1)


def _fit(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, *penalties: float) -> list[np.ndarray]:
    """Ridge in its dual form (more features than samples), features standardised; one guess per penalty."""
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
    a, b = (x - centre) / spread, (x_test - centre) / spread
    gram, across = a @ a.T / a.shape[1], b @ a.T / a.shape[1]
    shift = y.mean(axis=0)
    return [across @ np.linalg.solve(gram + penalty * np.eye(len(a)), y - shift) + shift for penalty in penalties]


PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)


def _ridge(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> tuple[float, float]:
    """The best penalty on a part kept aside, as (median error in cm, penalty)."""
    guesses = _fit(x, y, x_test, *PENALTIES)
    return min((_median_cm(guess, y_test), penalty) for guess, penalty in zip(guesses, PENALTIES, strict=True))


def _median_cm(guess: np.ndarray, truth: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(guess - truth, axis=1)) * 100)


def video_quality(policy: StreamPolicy, held_out: list[Clip], num: int = 64) -> tuple[VideoScore, ...]:
    """Imagined futures of early windows against what happened and against repeating the frame of now."""
    batch = clip_batch(held_out, [(index, 0) for index in range(min(num, len(held_out)))])
    imagined = policy.imagine(batch.obs, generator=torch.Generator().manual_seed(0))[CAMERA]
    return compare(batch.future[CAMERA], imagined, batch.obs.images[CAMERA], times_s=FUTURE_S)


def answers(policy: StreamPolicy, held_out: list[Clip], num: int = 200) -> tuple[Accuracy, ...]:
    """Accuracy by kind of question on held-out scenes."""
    found = []
    for kind in ("instruction", "where", "caption", "match"):
        rng = np.random.default_rng(5)
        chosen = [clip for clip in held_out if clip.target in clip.names][:num]
        asked = [ask_kind(kind, clip, min(2, len(clip.frames) - 1), rng) for clip in chosen]
        places = [(index, min(2, len(clip.frames) - 1)) for index, clip in enumerate(chosen)]
        obs = observation(chosen, places, tuple(question for question, _ in asked))
        given = policy.answer(obs, generator=torch.Generator().manual_seed(0))
        if kind == "caption":
            steps = [step for _, step in places]
            right = [_caption_right(*each) for each in zip(given, chosen, steps, strict=True)]
        else:
            right = [is_right(text, wanted) for text, (_, wanted) in zip(given, asked, strict=True)]
        chance = {"match": 0.5}.get(kind, 9 / 32**2)
        found.append(Accuracy(kind=kind, right=float(np.mean(right)), chance=chance, num_questions=len(chosen)))
    return tuple(found)


def _caption_right(given: str, clip: Clip, step: int) -> float:
    """Share of the named things that are there, at that place within one bin."""
    named = re.findall(r"([a-z ]+?) ?<x(\d+)> <y(\d+)>", given)
    right = 0
    for name, x, y in named:
        if name.strip() in clip.names:
            u, v = clip.pixels[step][clip.names.index(name.strip())] * 32
            right += abs(int(u) - int(x)) <= 1 and abs(int(v) - int(y)) <= 1
    return right / max(len(named), 1)


__all__ = ["Accuracy", "Probe", "answers", "probes", "video_quality"]
