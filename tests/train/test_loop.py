"""A run that is stopped anywhere continues to the same weights; it stops at the first NaN; frozen weights stay."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train.tiny_policy import SETTINGS, NoisyRegression, Pairs, RandomSource, weights_hash

from crossroads.errors import InputError
from crossroads.train.log import read_log
from crossroads.train.loop import TrainResult, step_seed, train
from crossroads.train.optim import TrainConfig

HERE = Path(__file__).parent


def run(
    out: Path, *, config: TrainConfig = SETTINGS, source: RandomSource | None = None, fingerprint: str = "f"
) -> tuple[NoisyRegression, TrainResult]:
    policy = NoisyRegression()
    result = train(
        policy,
        source or RandomSource(),
        config,
        out,
        device="cpu",
        progress=False,
        recipe_name="tiny",
        fingerprint=fingerprint,
    )
    return policy, result


class Interrupted(RandomSource):
    """Stops the run, as a person would, when it asks for the batch of one step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def batch(self, step: int) -> Pairs:
        if step == self.at:
            raise KeyboardInterrupt
        return super().batch(step)


def without_seconds(result: TrainResult) -> list[object]:
    return [replace(line, seconds=0.0) for line in result.curve]


@settings(max_examples=5)
@given(stops=st.lists(st.integers(0, SETTINGS.steps - 1), min_size=1, max_size=3))
def test_a_run_stopped_at_any_steps_ends_with_the_same_weights_and_curve(
    stops: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, expected = run(tmp_path_factory.mktemp("whole"))
    out = tmp_path_factory.mktemp("stopped")
    for stop in stops:
        try:
            run(out, source=Interrupted(stop))
        except KeyboardInterrupt:
            continue
    policy, result = run(out)
    assert weights_hash(policy) == weights_hash(whole)
    assert without_seconds(result) == without_seconds(expected)
    assert result.samples == expected.samples == SETTINGS.steps * SETTINGS.batch_size


def test_a_run_killed_at_random_moments_ends_with_the_same_weights(tmp_path: Path) -> None:
    expected, _ = run(tmp_path / "whole")
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "kill_run.py"), str(tmp_path / "killed"), "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    num_killed, got = finished.stdout.split()
    assert int(num_killed) >= 1  # how often a slow machine lets it be killed is chance
    assert got == weights_hash(expected)


def test_training_lowers_the_loss_and_moves_only_what_is_trainable(tmp_path: Path) -> None:
    start = NoisyRegression()
    policy, result = run(tmp_path, config=replace(SETTINGS, steps=300, log_every=50, checkpoint_every=300))
    assert sum(result.curve[-1].losses.values()) < 0.8 * sum(result.curve[0].losses.values())
    for name, value in policy.state_dict().items():
        moved = not torch.equal(value, start.state_dict()[name])
        assert moved != name.startswith("frozen."), name


def test_a_finished_run_returns_at_once_with_the_same_weights_and_curve(tmp_path: Path) -> None:
    first, expected = run(tmp_path)
    again, result = run(tmp_path, source=Interrupted(0))
    assert weights_hash(again) == weights_hash(first)
    assert result == expected


def test_the_caller_s_global_generator_is_left_where_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_seed_gives_other_weights_and_steps_have_unrelated_seeds(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "one")
    other, _ = run(tmp_path / "other", config=replace(SETTINGS, seed=4))
    assert weights_hash(one) != weights_hash(other)
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(50)}
    assert len(seeds) == 1000


def test_a_sample_of_weight_zero_teaches_nothing(tmp_path: Path) -> None:
    class Ignored(RandomSource):
        def __init__(self, noise: float) -> None:
            super().__init__()
            self.noise = noise

        def batch(self, step: int) -> Pairs:
            pairs = super().batch(step)
            weight, y = pairs.weight.clone(), pairs.y.clone()
            weight[0] = 0.0
            y[0] += self.noise
            return replace(pairs, weight=weight, y=y)

    clean, _ = run(tmp_path / "clean", source=Ignored(0.0))
    spoilt, _ = run(tmp_path / "spoilt", source=Ignored(100.0))
    assert weights_hash(clean) == weights_hash(spoilt)


@pytest.mark.parametrize("log_every", [1, 5])
def test_a_nan_stops_the_run_and_names_step_and_loss_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, log_every: int
) -> None:
    with pytest.raises(InputError, match=r"step 10, square: expected a finite number, got nan") as caught:
        run(tmp_path, config=replace(SETTINGS, log_every=log_every), source=RandomSource(bad_step=10))
    assert "step 8 in" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000004", "step_00000008"]
    policy, _ = run(tmp_path, config=replace(SETTINGS, log_every=log_every))
    whole, _ = run(tmp_path.with_name("whole"), config=replace(SETTINGS, log_every=log_every))
    assert weights_hash(policy) == weights_hash(whole)


def test_a_folder_of_another_recipe_data_or_settings_is_refused_in_four_parts(tmp_path: Path) -> None:
    run(tmp_path, config=replace(SETTINGS, steps=8))
    with pytest.raises(InputError, match=r"fingerprint g.*got one of tiny .fingerprint f.*--out"):
        run(tmp_path, config=replace(SETTINGS, steps=8), fingerprint="g")
    with pytest.raises(InputError, match=r"expected learning_rate=0.5, got learning_rate=0.01"):
        run(tmp_path, config=replace(SETTINGS, steps=8, learning_rate=0.5))
    run(tmp_path, config=replace(SETTINGS, steps=8, checkpoint_every=1))


def test_the_log_holds_means_norms_rates_and_survives_a_torn_last_line(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, source=Interrupted(14))
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 15, "los')
    assert [line.step for line in read_log(path)] == [5, 10]
    _, result = run(tmp_path)
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 24]
    assert all(set(line["losses"]) == {"square", "absolute"} and line["gradient_norm"] > 0 for line in lines)
    assert math.isclose(lines[-1]["learning_rate"], 1e-3)
    assert dict(result.final_losses) == lines[-1]["losses"]


def test_a_policy_with_nothing_to_train_is_refused(tmp_path: Path) -> None:
    policy = NoisyRegression().requires_grad_(False)
    with pytest.raises(InputError, match="at least one trainable parameter"):
        train(
            policy,
            RandomSource(),
            SETTINGS,
            tmp_path,
            device="cpu",
            progress=False,
            recipe_name="tiny",
            fingerprint="f",
        )
