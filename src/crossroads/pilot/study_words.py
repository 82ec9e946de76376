"""What one trained policy makes of its words before it moves: the offline swap probe, and who leads its first motion.

In every scene of the swapped trials the policy is asked at the start, with the same noise, under the scene's usual
instruction and under the one of the trial. Where it imagines, a reader of the hand's place, an instrument trained on
the labelled frames and blind to words, says where the imagined hand goes: to the named thing or to the usual one. So a
wrong motion is the video's fault (the imagined hand goes wrong too) or the decoder's (it goes right, the motion not).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.evaluate.calls import observation
from crossroads.evaluate.closed_loop import Trials, open_tables, other_task
from crossroads.evaluate.offline import predict, probe_words
from crossroads.evaluate.swap_probe import Targets
from crossroads.pilot.inverse import InverseModel
from crossroads.policy import Policy
from crossroads.sim.tabletop.language import paraphrase
from crossroads.types import Observation

APART = np.cos(np.pi / 4)
"""Scenes in which the two things lie in directions closer than 45 degrees tell nothing of where a hand goes."""


@dataclass(frozen=True, kw_only=True)
class Starts:
    """The scenes of swapped trials before anything moves."""

    obs: Observation
    """Told the usual instruction."""
    others: tuple[str, ...]
    """The instructions of the swapped trials."""
    paraphrases: dict[str, str]
    """Another wording of every usual instruction."""
    hand: Float[np.ndarray, "scenes 3"]
    usual: Float[np.ndarray, "scenes 3"]
    """Where the thing is that the usual instruction names, in metres."""
    named: Float[np.ndarray, "scenes 3"]
    """Where the thing is that the swapped instruction names."""

    @property
    def telling(self) -> np.ndarray:
        """Scenes in which the way to one thing is not the way to the other."""
        to_named, to_usual = self.named - self.hand, self.usual - self.hand
        return _cosine(to_named[:, :2], to_usual[:, :2]) < APART


def starts_of(trials: Trials) -> Starts:
    """Look at every scene of the trials once."""
    seen: list[Observation] = []
    others, places, paraphrases = [], [], {}
    with open_tables(trials) as tables:
        for start in range(0, len(trials.seeds), tables.num_envs):
            seeds = trials.seeds[start : start + tables.num_envs]
            step = tables.reset(seeds)
            seen.append(observation(step.obs, np.arange(len(seeds)), tables.options.cameras, 0.0))
            for info, seed in zip(step.infos, seeds, strict=True):
                task, at = info["task"], info["object_positions"]
                other = other_task(info["valid_tasks"], task, seed)
                others.append(other.text)
                drawn = np.random.default_rng(seed)
                paraphrases[task.text] = paraphrase(task.family, task.target, task.argument, drawn, unseen=True)
                places.append((info["hand"], at[task.target], at[other.target]))
    hand, usual, named = np.moveaxis(np.array(places), 1, 0)
    return Starts(obs=_joined(seen), others=tuple(others), paraphrases=paraphrases, hand=hand, usual=usual, named=named)


def words_of(policy: Policy, starts: Starts, scale: np.ndarray, reader: InverseModel | None) -> dict[str, Any]:
    """The offline swap probe, and per telling scene whether hand and imagined hand go to the named thing (plain JSON).

    ``scale`` is the standard deviation of each action over the labelled frames; ``reader`` is given where the policy
    imagines. The first three actions and states are the hand's displacement per step and its place, in metres.
    """
    targets = Targets(hand=starts.hand, new=starts.named, motion=(0, 1, 2))
    probe = probe_words(
        policy,
        starts.obs,
        others=starts.others,
        paraphrase=starts.paraphrases.__getitem__,
        scale=scale,
        targets=targets,
    )
    told = starts.obs.told(starts.others)
    chunks, imagined = predict(policy, told, seed=0, show=reader is not None)
    found: dict[str, Any] = {"probe": asdict(probe), "motion": _towards(starts, chunks[:, :, :2].sum(axis=1))}
    if reader is not None:
        _, places = reader.read(told.images[reader.camera], imagined[reader.camera])
        found["video"] = _towards(starts, (places[:, -1] - places[:, 0])[:, :2])
    return found


def reader_check(reader: InverseModel, dataset: LeRobotDataset, episodes: Sequence[int]) -> float:
    """Share of real expert clips, from an episode's start, in which the way that it reads is within 45 degrees of the
    hand's true way: what its word on imagined clips is worth at best."""
    window = replace(reader.eyes.recipe.window, num_state=dataset.space.num_state)
    windows = Windows(dataset, window, episodes=episodes, cache=None)
    first = [row for row, (_, frame) in enumerate(windows.places()) if frame == 0]
    batch = windows.batch(np.array(first))
    _, places = reader.read(batch.obs.images[reader.camera], batch.future[reader.camera])
    last = round(reader.times_s[-1] * dataset.fps)
    states = [dataset.state(episode) for episode in episodes]
    true = np.array([state[min(last, len(state) - 1)] - state[0] for state in states])
    return float((_cosine((places[:, -1] - places[:, 0])[:, :2], true[:, :2]) > APART).mean())


def _towards(starts: Starts, way: Float[np.ndarray, "scenes 2"]) -> list[int]:
    """Per telling scene: 1 where the way is nearer to that of the named thing than to that of the usual one."""
    to_named, to_usual = (_cosine(way, (at - starts.hand)[:, :2]) for at in (starts.named, starts.usual))
    return (to_named > to_usual)[starts.telling].astype(int).tolist()


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sizes = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / np.maximum(sizes, 1e-9)


def _joined(parts: Sequence[Observation]) -> Observation:
    return Observation(
        images={name: torch.cat([part.images[name] for part in parts]) for name in parts[0].images},
        state=torch.cat([part.state for part in parts]),
        text=tuple(text for part in parts for text in part.text),
        robot=tuple(name for part in parts for name in part.robot),
        time_s=torch.cat([part.time_s for part in parts]),
    )
