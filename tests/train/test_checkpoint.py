"""A checkpoint is there whole or not at all; damage and strangers are found before a weight is touched."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from train.tiny_policy import SETTINGS, NoisyRegression, weights_hash

from crossroads.errors import InputError
from crossroads.train.checkpoint import (
    Progress,
    frozen_hash,
    load_latest,
    load_weights,
    read_meta,
    save,
    save_policy,
)
from crossroads.train.loop import identity_of
from crossroads.train.optim import RunningAverage, build_optimiser, trainable

IDENTITY = identity_of(SETTINGS, "tiny", "f")


class Run:
    """A policy with an optimiser that has taken some steps."""

    def __init__(self, num_steps: int) -> None:
        self.policy = NoisyRegression()
        self.optimiser = build_optimiser(self.policy, SETTINGS)
        self.average = RunningAverage(trainable(self.policy), 0.9)
        for step in range(num_steps):
            for parameter in trainable(self.policy).values():
                parameter.grad = torch.full_like(parameter, 0.1 * (step + 1))
            self.optimiser.step()
            self.average.update(trainable(self.policy), step)

    def save(self, folder: Path, step: int, keep: int = 2) -> Path:
        reached = Progress(step=step, seconds=1.5, samples=step * 8, window=({"a": 0.1},))
        return save(
            folder,
            policy=self.policy,
            optimiser=self.optimiser,
            average=self.average,
            progress=reached,
            identity=IDENTITY,
            frozen=frozen_hash(self.policy, trainable(self.policy)),
            keep=keep,
        )

    def load(self, folder: Path) -> Progress | None:
        return load_latest(
            folder, policy=self.policy, optimiser=self.optimiser, average=self.average, identity=IDENTITY
        )


def test_what_is_loaded_is_what_was_saved_bit_for_bit(tmp_path: Path) -> None:
    saved, loaded = Run(5), Run(0)
    saved.save(tmp_path, 5)
    assert loaded.load(tmp_path) == Progress(step=5, seconds=1.5, samples=40, window=({"a": 0.1},))
    assert weights_hash(loaded.policy) == weights_hash(saved.policy)
    for name, value in saved.average.values.items():
        assert torch.equal(loaded.average.values[name], value)
    for mine, theirs in zip(trainable(loaded.policy).values(), trainable(saved.policy).values(), strict=True):
        state = saved.optimiser.state[theirs]
        assert {"step", "exp_avg", "exp_avg_sq"} <= set(state)
        assert all(torch.equal(loaded.optimiser.state[mine][entry], value) for entry, value in state.items())


def test_frozen_weights_are_not_stored_and_another_backbone_is_refused(tmp_path: Path) -> None:
    path = Run(1).save(tmp_path, 1)
    with safe_open(path / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    assert "count" in names
    assert not [name for name in names if name.startswith("frozen")]
    other = Run(0)
    other.policy.frozen.weight.data += 1e-6
    with pytest.raises(InputError, match="frozen weights with hash"):
        other.load(tmp_path)


def test_only_the_newest_checkpoints_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    run = Run(1)
    for step in (3, 12, 7, 100):
        run.save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000012", "step_00000100"]
    reached = Run(0).load(tmp_path)
    assert reached is not None
    assert reached.step == 100


def test_an_unfinished_write_is_ignored_and_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(2).save(tmp_path, 2)

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            Run(3).save(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]
    left = tmp_path / ".partial-step_00000009-1"
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"half")
    reached = Run(0).load(tmp_path)
    assert reached is not None
    assert reached.step == 2
    assert not left.exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "optimiser.safetensors", "average.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "delete"])
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path: Path, name: str, harm: str) -> None:
    Run(1).save(tmp_path, 1)
    path = Run(2).save(tmp_path, 2) / name
    if harm == "truncate":
        os.truncate(path, path.stat().st_size // 2)
    elif harm == "flip":
        data = bytearray(path.read_bytes())
        data[0 if name == "state.json" else -3] ^= 0xFF
        path.write_bytes(bytes(data))
    else:
        path.unlink()
    with pytest.warns(RuntimeWarning, match="using the checkpoint before it"):
        reached = Run(0).load(tmp_path)
    assert reached is not None
    assert reached.step == 1


def test_a_full_disk_leaves_no_trace_and_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(1).save(tmp_path, 1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"step_00000002.*GB free.*the same command again"):
        Run(2).save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_a_saved_policy_comes_back_whole_with_its_meta(tmp_path: Path) -> None:
    run = Run(4)
    run.policy.count += 7
    save_policy(tmp_path / "policy", run.policy, {"recipe": "tiny", "steps": 4})
    other = NoisyRegression()
    assert load_weights(tmp_path / "policy", other) == {"recipe": "tiny", "steps": 4}
    assert weights_hash(other) == weights_hash(run.policy)
    assert read_meta(tmp_path / "policy")["recipe"] == "tiny"
    # Whether the reader freezes the same layers must not matter.
    assert load_weights(tmp_path / "policy", NoisyRegression().requires_grad_(False))["steps"] == 4


def test_a_saved_policy_may_carry_its_frozen_weights(tmp_path: Path) -> None:
    run = Run(1)
    save_policy(tmp_path / "policy", run.policy, {}, include_frozen=True)
    other = NoisyRegression()
    other.frozen.weight.data.zero_()
    load_weights(tmp_path / "policy", other)
    assert weights_hash(other) == weights_hash(run.policy)


def test_weights_of_another_network_are_refused_before_any_is_copied(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", NoisyRegression(width=5), {})
    policy = NoisyRegression()
    before = weights_hash(policy)
    with pytest.raises(InputError, match=r"moving.0.weight.*\(16, 6\).*\(16, 5\)"):
        load_weights(tmp_path / "policy", policy)
    assert weights_hash(policy) == before


def test_a_missing_or_damaged_policy_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder.*crossroads train"):
        load_weights(tmp_path / "nothing", NoisyRegression())
    folder = save_policy(tmp_path / "policy", NoisyRegression(), {})
    os.truncate(folder / "weights.safetensors", 10)
    with pytest.raises(InputError, match="checksum"):
        load_weights(folder, NoisyRegression())


def test_the_frozen_hash_sees_names_shapes_and_every_byte() -> None:
    one, same, other = (nn.Linear(3, 2) for _ in range(3))
    same.load_state_dict(one.state_dict())
    other.load_state_dict(one.state_dict())
    other.bias.data[1] += 1e-7
    assert frozen_hash(one, set()) == frozen_hash(same, set())
    assert frozen_hash(one, set()) != frozen_hash(other, set())
    assert frozen_hash(one, {"bias"}) == frozen_hash(other, {"bias"})


def test_other_settings_in_the_folder_are_named(tmp_path: Path) -> None:
    Run(1).save(tmp_path, 1)
    run = Run(0)
    with pytest.raises(InputError, match="expected batch_size=9, got batch_size=8"):
        load_latest(
            tmp_path,
            policy=run.policy,
            optimiser=run.optimiser,
            average=run.average,
            identity=identity_of(replace(SETTINGS, batch_size=9), "tiny", "f"),
        )
