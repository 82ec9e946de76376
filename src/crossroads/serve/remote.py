"""A policy behind a WebSocket as one of our policies: one request per robot, every answer checked before it is used."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from crossroads.errors import InputError
from crossroads.policy import Memory
from crossroads.serve.client import PolicyClient
from crossroads.serve.keys import RemoteKeys
from crossroads.space import ActionSpace
from crossroads.types import Actions, Observation

ACTIONS = "actions"


class RemotePolicy:
    """Acts by asking a server. The protocol knows no batch, no reset and no seed: robots are asked one after the other
    over one connection, a server is expected to keep nothing between two requests, and its noise is its own. Nor does
    it have a place for the frames since the last request: a server that goes on from what it was shown (DreamZero's,
    LingBot-VA's) is shown the present moment alone, like any other.

    Answers are moved to the robot's limits, as our own policies' are; ``clipped_share`` says how much that changed.
    """

    passed_s: tuple[float, ...] = ()
    before_s: tuple[float, ...] = ()

    def __init__(self, client: PolicyClient, keys: RemoteKeys, space: ActionSpace) -> None:
        self.client, self.keys, self.space = client, keys, space
        self._low, self._high = np.array(space.low, np.float32), np.array(space.high, np.float32)
        self._num_values, self._num_clipped = 0, 0
        self.server_s: list[float] = []
        """Seconds of computing that the server reported with its answers (``server_timing.infer_ms``)."""

    @property
    def clipped_share(self) -> float | None:
        """Share of the numbers received so far that lay outside the limits by more than a millionth of the range."""
        return self._num_clipped / self._num_values if self._num_values else None

    def start(self, batch_size: int) -> Memory:
        return Memory()

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        """A chunk for every robot; ``generator`` has nothing to draw, and a server shows nothing that it imagined.

        Raises:
            InputError: the server does not answer, or answers with anything but finite ``actions [horizon, dim]``.
        """
        chunks, latencies_s = [], []
        for row in range(obs.batch_size):
            request = self._request(obs, row)
            started = time.perf_counter()
            answer = self.client.infer(request)
            latencies_s.append(time.perf_counter() - started)
            chunks.append(self._checked(answer))
        lengths = sorted({len(chunk) for chunk in chunks})
        if len(lengths) > 1:
            raise self._wrong("as many actions in every answer", f"{lengths[0]} in one, {lengths[-1]} in another")
        values = torch.from_numpy(np.stack(chunks))
        actions = Actions(values=values, control_hz=self.space.control_hz, imagined={}, latencies_s=tuple(latencies_s))
        return actions, Memory(num_chunks=memory.num_chunks + 1)

    def _request(self, obs: Observation, row: int) -> dict[str, Any]:
        state = obs.state[row].numpy()
        names = self.space.state_names
        parts = {key: state[[names.index(name) for name in wanted or names]] for key, wanted in self.keys.state.items()}
        images = {key: obs.images[camera][row].numpy() for key, camera in self.keys.images.items()}
        return {**images, **parts, self.keys.prompt: obs.text[row]}

    def _checked(self, answer: Mapping[str, Any]) -> np.ndarray:
        """The chunk in an answer, float32 ``[horizon, dim]`` within the limits."""
        if ACTIONS not in answer:
            raise self._wrong(f"a map with {ACTIONS!r}", f"one with {sorted(map(str, answer)) or 'nothing'}")
        if isinstance(answer[ACTIONS], Mapping):
            keys = sorted(map(str, answer[ACTIONS]))
            raise self._wrong("an array as openpi packs it (byte-string keys)", f"a map with {keys}")
        try:
            chunk = np.asarray(answer[ACTIONS], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise self._wrong("an array of numbers", str(error)) from error
        size = self.space.action_size
        if chunk.ndim != 2 or chunk.shape[1] != size or not len(chunk):
            raise self._wrong(
                f"actions of shape [horizon, {size}] ({', '.join(self.space.action_names)})", str(chunk.shape)
            )
        if not np.isfinite(chunk).all():
            raise self._wrong("finite actions", f"{int((~np.isfinite(chunk)).sum())} that are not")
        self._note(answer, chunk)
        return np.clip(chunk, self._low, self._high)

    def _note(self, answer: Mapping[str, Any], chunk: np.ndarray) -> None:
        slack = (self._high - self._low) * 1e-6
        self._num_values += chunk.size
        self._num_clipped += int(((chunk < self._low - slack) | (chunk > self._high + slack)).sum())
        timing = answer.get("server_timing")
        taken = timing.get("infer_ms") if isinstance(timing, Mapping) else None
        if isinstance(taken, int | float) and math.isfinite(taken):
            self.server_s.append(taken / 1000)

    def _wrong(self, expected: str, got: str) -> InputError:
        return InputError(
            where=self.client.address,
            expected=expected,
            got=got,
            do=f"Serve a policy of this robot ({self.space.robot}), with its actions in physical units.",
        )
