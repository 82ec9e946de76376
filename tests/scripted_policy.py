"""The scripted expert as a pure function of what is seen: it knows some scenes by heart, and refuses to see any other.

A picture, a state or a word that differs in one bit from what the simulator shows is an error, so whoever plays these
scenes successfully has been shown exactly what the simulator showed.
"""

from __future__ import annotations

import numpy as np
import torch

from crossroads.evaluate.closed_loop import other_task
from crossroads.policy import Memory
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.sim.tabletop.expert import Expert, Style
from crossroads.sim.tabletop.vector import Options
from crossroads.types import Actions, Observation


class Scripted:
    """``weak`` scenes are played with the hand held still, so that they fail."""

    passed_s: tuple[float, ...] = ()
    before_s: tuple[float, ...] = ()

    def __init__(
        self, options: Options, seeds: tuple[int, ...], *, execute_steps: int, weak: tuple[int, ...] = ()
    ) -> None:
        self.cameras, self.execute_steps = options.cameras, execute_steps
        self._known: dict[bytes, np.ndarray] = {}
        env = options.make()
        for seed in seeds:
            _, info = env.reset(seed=seed)
            for task in (info["task"], other_task(info["valid_tasks"], info["task"], seed)):
                obs, _ = env.reset(seed=seed, options={"task": task})
                expert = Expert(env, Style(speed=(1.0, 1.0)), np.random.default_rng(seed))
                ended = False
                while not ended:
                    before, chunk = obs, []
                    while len(chunk) < execute_steps and not ended:
                        still = np.array((0, 0, 0, 1), dtype=np.float32)
                        chunk.append(still if seed in weak else expert.act())
                        obs, _, done, cut, _ = env.step(chunk[-1])
                        ended = done or cut
                    chunk += [chunk[-1]] * (execute_steps - len(chunk))
                    self._known[self._key(before, before["instruction"])] = np.stack(chunk)

    def _key(self, obs, text: str) -> bytes:
        return b"|".join((*(obs[camera].tobytes() for camera in self.cameras), obs["state"].tobytes(), text.encode()))

    def actions(self, images: dict[str, np.ndarray], state: np.ndarray, text: str) -> np.ndarray:
        """The expert's chunk, float32 ``(execute_steps, 4)``; a KeyError for anything never seen."""
        return self._known[self._key({**images, "state": state}, text)]

    # the same as one of our policies --------------------------------------------------------------------------------

    def start(self, batch_size: int) -> Memory:
        return Memory()

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        chunks = [
            self.actions(
                {camera: obs.images[camera][row].numpy() for camera in self.cameras}, obs.state[row].numpy(), text
            )
            for row, text in enumerate(obs.text)
        ]
        values = torch.from_numpy(np.stack(chunks))
        return Actions(values=values, control_hz=TABLETOP_SPACE.control_hz, imagined={}), memory
