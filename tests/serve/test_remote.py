"""A policy behind a wire plays exactly as it does here, and what it answers is checked before a robot moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from policy_server import openpi_handler, serving
from scripted_policy import Scripted

from crossroads.errors import InputError
from crossroads.evaluate.closed_loop import Trials, run_trials
from crossroads.policy import Memory
from crossroads.serve.client import PolicyClient
from crossroads.serve.keys import LIBERO
from crossroads.serve.remote import RemotePolicy
from crossroads.sim.tabletop.env import TABLETOP_SPACE
from crossroads.sim.tabletop.vector import Options
from crossroads.types import Observation

LABELS: dict[str, Any] = {"arm": "scripted", "cell": "server", "training_seed": 0}


def trials(**changes: object) -> Trials:
    settings = {
        "families": ("reach", "press"),
        "seeds": (11, 12, 13, 14, 15),
        "execute_steps": 5,
        "cameras": ("front", "wrist"),
        "image_hw": (24, 24),
        "num_envs": 3,
    }
    return Trials(**(settings | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    given = trials()
    options = Options(families=given.families, image_hw=given.image_hw, cameras=given.cameras)
    return Scripted(options, given.seeds, execute_steps=given.execute_steps, weak=(13,))


@pytest.mark.sim
@pytest.mark.parametrize("swapped", [False, True])
def test_a_policy_behind_the_protocol_gives_exactly_the_episodes_of_the_same_policy_here(
    scripted: Scripted, swapped: bool
) -> None:
    def infer(seen: dict[str, Any]) -> dict[str, Any]:
        images = {"front": seen["observation/image"], "wrist": seen["observation/wrist_image"]}
        return {"actions": scripted.actions(images, seen["observation/state"], seen["prompt"])}

    here = run_trials(scripted, trials(swapped=swapped), **LABELS)
    with serving(openpi_handler(infer)) as address, PolicyClient(address, timeout_s=30) as client:
        remote = RemotePolicy(client, LIBERO, TABLETOP_SPACE)
        there = run_trials(remote, trials(swapped=swapped), **LABELS)
    assert [replace(one, latencies_s=()) for one in there] == [replace(one, latencies_s=()) for one in here]
    assert {record.success for record in here} == {True, False}, "both kinds of episode must travel"
    assert sum(len(record.latencies_s) for record in there) == len(remote.server_s)
    assert all(len(one.latencies_s) == len(other.latencies_s) for one, other in zip(there, here, strict=True))
    assert remote.clipped_share == 0


class Answering(PolicyClient):
    """A client without a wire, whose server gives these answers and then the last one again."""

    def __init__(self, *answers: Mapping[str, Any]) -> None:
        self.address, self.answers = "ws://here:8000", list(answers)
        self.asked: list[Mapping[str, Any]] = []

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(observation)
        return dict(self.answers[min(len(self.asked), len(self.answers)) - 1])


def policy_of(*answers: Mapping[str, Any], keys=LIBERO) -> RemotePolicy:
    return RemotePolicy(Answering(*answers), keys, TABLETOP_SPACE)


def seen(num: int = 1) -> Observation:
    rng = np.random.default_rng(0)
    return Observation(
        images={name: torch.from_numpy(rng.integers(0, 255, (num, 8, 8, 3), np.uint8)) for name in ("front", "wrist")},
        state=torch.arange(num * 4, dtype=torch.float32).reshape(num, 4),
        text=tuple(f"press button {row}" for row in range(num)),
        robot=("tabletop",) * num,
        time_s=torch.zeros(num),
    )


def act(policy: RemotePolicy, num: int = 1) -> np.ndarray:
    return policy.act(seen(num), Memory(), generator=torch.Generator())[0].values.numpy()


GOOD = np.full((6, 4), 0.01, dtype=np.float32)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"actions": np.zeros((6, 7))}, r"\[horizon, 4\] \(dx, dy, dz, jaw\), got \(6, 7\)"),
        ({"actions": np.zeros(4)}, r"got \(4,\)"),
        ({"actions": np.zeros((2, 6, 4))}, r"got \(2, 6, 4\)"),
        ({"actions": np.zeros((0, 4))}, r"got \(0, 4\)"),
        ({"actions": np.array([[0, np.nan, 0, np.inf]])}, "finite actions, got 2 that are not"),
        ({"action": GOOD}, "a map with 'actions', got one with .*'action'"),
        ({}, "nothing"),
        ({"actions": {"__ndarray__": True, "data": b"", "dtype": "<f4"}}, "byte-string keys"),
        ({"actions": "left"}, "an array of numbers"),
        ({"actions": [[0, 0, 0, 0], [0]]}, "an array of numbers"),
    ],
)
def test_an_answer_that_no_robot_can_follow_says_what_is_wrong(answer: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as wrong:
        act(policy_of(answer))
    assert wrong.value.where == "ws://here:8000"
    assert "tabletop" in wrong.value.do


def test_answers_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="4 in one, 6 in another"):
        act(policy_of({"actions": GOOD}, {"actions": GOOD[:4]}), num=2)


def test_actions_are_moved_to_the_limits_and_how_many_were_is_counted() -> None:
    wild = GOOD.copy()
    wild[0] = (1.0, -1.0, 0.03, -1.0)
    policy = policy_of({"actions": wild})
    assert policy.clipped_share is None
    moved = act(policy)[0]
    assert np.array_equal(moved[0], np.array((0.03, -0.03, 0.03, -1.0), np.float32))
    assert np.array_equal(moved[1:], GOOD[1:])
    assert policy.clipped_share == 2 / 24


def test_each_robot_is_asked_with_its_own_row_under_the_wanted_names() -> None:
    keys = replace(
        LIBERO,
        images={"base": "wrist"},
        state={"gripper": ("jaw_m",), "position": ("z", "x"), "all": ()},
        prompt="task",
    )
    policy = policy_of({"actions": GOOD}, keys=keys)
    assert act(policy, num=2).shape == (2, 6, 4)
    asked: list[Mapping[str, Any]] = policy.client.asked  # pyright: ignore[reportAttributeAccessIssue]
    for row, request in enumerate(asked):
        assert set(request) == {"base", "gripper", "position", "all", "task"}
        assert np.array_equal(request["base"], seen(2).images["wrist"][row].numpy())
        assert request["gripper"].tolist() == [4 * row + 3]
        assert request["position"].tolist() == [4 * row + 2, 4 * row]
        assert request["all"].tolist() == [4 * row + column for column in range(4)]
        assert request["task"] == f"press button {row}"


@pytest.mark.sim
def test_chunks_shorter_than_what_is_executed_are_refused() -> None:
    with pytest.raises(InputError, match=r"at least 5 actions.*got 4.*--execute-steps"):
        run_trials(policy_of({"actions": GOOD[:4]}), trials(seeds=(1,)), **LABELS)
