"""LAPA's three phases: the first two need no actions, and each goes on from the weights of the one before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import fresh, seeded
from nano_batch import nano_batch
from recordings import episodes, write
from safetensors.torch import load_file

from crossroads import cli
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError
from crossroads.pilot.single import Training, restore, train_recipe
from crossroads.recipes.catalogue import recipe


def recorded(path: Path, *, free: bool) -> Path:
    return write(path, [replace(one, action_free=free) for one in episodes(3)])


@pytest.mark.parametrize("phase", ["quantiser", "latent"])
def test_what_is_learned_of_video_does_not_depend_on_actions(phase: str) -> None:
    policy = fresh(recipe("lapa"))
    policy.enter(policy.recipe.phase(phase))
    with torch.no_grad():  # before training all changes are small, and the shortest entry is the nearest to each
        policy.net.get_parameter("codecs.motion.model.codebook").mul_(0.01)
    batch = nano_batch(policy.recipe)
    other = replace(batch, actions=torch.zeros_like(batch.actions), actions_valid=torch.zeros_like(batch.actions_valid))
    turned = replace(batch, future={name: 255 - frames // 9 for name, frames in batch.future.items()})
    with torch.no_grad():
        ours, blind, wrong = (policy.loss(one, generator=seeded()).total for one in (batch, other, turned))
    assert torch.equal(ours, blind)
    assert not torch.equal(ours, wrong)


def test_latent_actions_are_not_needed_to_act() -> None:
    stage = recipe("lapa").stage
    assert stage.layout.needed(stage.outputs()) == {"image", "text", "action"}


def test_codes_are_labelled_by_the_model_that_learns_them() -> None:
    lapa = recipe("lapa")
    with pytest.raises(InputError, match="stream latent, labelled_by: expected the stream of its own model of motion"):
        lapa.vary({"stage.streams.latent.labelled_by": None})
    with pytest.raises(InputError, match="stream latent, labelled_by"):
        lapa.vary({"stage.streams.motion.codec.model.heads": 2})
    with pytest.raises(InputError, match="stream text, labelled_by: expected none"):
        lapa.vary({"stage.streams.text.labelled_by": "motion"})


def test_three_phases_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first two on video without any action, the last on few actions; then the policy acts."""
    video, robot = recorded(tmp_path / "video", free=True), recorded(tmp_path / "robot", free=False)
    runs = {phase: tmp_path / phase for phase in ("quantiser", "latent", "action")}
    few = ["--steps", "1", "--batch-size", "2", "--quiet"]
    start: list[str] = []
    for phase, run in runs.items():
        data = robot if phase == "action" else video
        arguments = ["train", "lapa", "--data", str(data), "--out", str(run), "--phase", phase, *few, *start]
        assert cli.main(arguments) == 0, capsys.readouterr().err
        start = ["--start", str(run)]
    weights = {phase: load_file(run / "policy" / "weights.safetensors") for phase, run in runs.items()}
    for name, first in weights["quantiser"].items():
        assert torch.equal(first, weights["action"][name]) or ".motion." not in name
    assert any(not torch.equal(weights["latent"][name], weights["quantiser"][name]) for name in weights["latent"])
    assert any(not torch.equal(weights["latent"][name], weights["action"][name]) for name in weights["latent"])
    policy, dataset = restore(runs["action"]), LeRobotDataset.open(robot)
    obs = replace(nano_batch(policy.recipe).obs, state=torch.zeros(2, 3))
    chunk, _ = policy.act(obs, policy.start(2), generator=seeded())
    assert chunk.values.shape == (2, 6, dataset.space.action_size)


def test_phases_refuse_what_they_cannot_start_from(tmp_path: Path) -> None:
    video = recorded(tmp_path / "video", free=True)
    few = Training(steps=1, batch_size=2, phase="quantiser")
    train_recipe("lapa", video, tmp_path / "first", few, progress=False)
    with pytest.raises(InputError, match=r"start, .*expected a run of 'cloning' .*got one of 'lapa'"):
        train_recipe("cloning", video, tmp_path / "other", Training(steps=1, start=tmp_path / "first"), progress=False)
    with pytest.raises(InputError, match="expected episodes with actions, got none"):
        train_recipe("lapa", video, tmp_path / "third", replace(few, phase="action"), progress=False)
