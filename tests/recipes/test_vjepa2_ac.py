"""V-JEPA 2-AC: actions move what is predicted, later ones nothing before them; held actions; from the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import policy_of, seeded
from nano_batch import nano_batch
from recordings import episodes, write

from crossroads import cli
from crossroads.codecs.held_actions import HeldActionCodec, HeldActions
from crossroads.errors import InputError
from crossroads.pilot.single import restore

HELD = HeldActions(num_actions=6, steps=2, action_size=4, control_hz=10.0)


@torch.no_grad()
def test_an_action_moves_the_frames_from_its_step_on() -> None:
    policy = policy_of("vjepa2_ac")
    policy.enter(policy.recipe.phase("full"))
    batch = nano_batch(policy.recipe)
    batch = replace(batch, actions_valid=torch.ones_like(batch.actions_valid))
    later = batch.actions.clone()
    later[:, 6:] = 0.0
    first_only = torch.tensor([[True, False]] * 2)

    def loss(**changes: torch.Tensor) -> torch.Tensor:
        return policy.loss(replace(batch, **changes), generator=seeded()).terms["video"]

    assert torch.equal(loss(future_valid=first_only), loss(future_valid=first_only, actions=later))
    assert not torch.equal(loss(), loss(actions=later))


def test_a_step_is_the_mean_of_its_actions_and_is_sent_as_often() -> None:
    codec, batch = HeldActionCodec(HELD, width=5), nano_batch(policy_of("vjepa2_ac").recipe)
    chunk = replace(batch, actions=batch.actions[:, :6], actions_valid=torch.ones(2, 6, dtype=torch.bool))
    latent = codec.target(chunk)
    torch.testing.assert_close(latent.values[:, 1], chunk.actions[:, 3:].mean(dim=1))
    sent = codec.decode(latent.values)
    assert torch.equal(codec.target(replace(chunk, actions=sent)).valid, latent.valid)
    torch.testing.assert_close(codec.target(replace(chunk, actions=sent)).values, latent.values)
    cut = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    assert codec.target(replace(chunk, actions_valid=cut)).valid.tolist() == [[True, False], [True, True]]


def test_steps_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="HeldActions: expected as many of the 6 actions in each step, got 4 steps"):
        replace(HELD, steps=4)


def test_it_trains_from_the_command_line_and_acts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = write(tmp_path / "data", episodes(3)), tmp_path / "run"
    few = ["--steps", "1", "--batch-size", "2", "--quiet"]
    assert cli.main(["train", "vjepa2_ac", "--data", str(data), "--out", str(run), *few]) == 0, capsys.readouterr().err
    policy = restore(run)
    obs = replace(nano_batch(policy.recipe).obs, state=torch.zeros(2, 3))
    chunk, _ = policy.act(obs, policy.start(2), generator=seeded())
    assert chunk.values.shape == (2, 12, 2)
    assert torch.equal(chunk.values[:, 0], chunk.values[:, 5])
