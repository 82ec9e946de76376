"""Diffusion Policy's two networks and their policies against their recordings."""

from __future__ import annotations

import pytest
import torch

from crossroads.errors import InputError
from crossroads.parity.case import Named
from crossroads.parity.compare import compare
from crossroads.parity.diffusion_policy import Seen, implicit, process_of
from crossroads.parity.systems import run
from golden import golden_cases, load_golden

SYSTEMS = ("diffusion_policy_unet", "diffusion_policy_transformer")
CASES = [(system, name) for system in SYSTEMS for name in golden_cases(system)]


@pytest.mark.golden
@pytest.mark.parametrize(("system", "name"), CASES)
def test_every_recorded_output_is_reproduced_from_the_published_weights(system: str, name: str) -> None:
    case = load_golden(system, name)
    produced = run(case)
    assert produced.outputs.keys() == case.outputs.keys()
    assert [row for row in compare(case, produced) if not row.ok] == []


def test_observed_numbers_of_a_trajectory_are_put_back_at_its_first_steps_alone() -> None:
    trajectory, fixed = torch.randn(2, 4, 5), torch.randn(2, 4, 2)
    held = Seen(fixed=fixed).put_back(trajectory, 3)
    assert torch.equal(held[:, :3, 3:], fixed[:, :3])
    assert torch.equal(held[:, 3:], trajectory[:, 3:])
    assert torch.equal(held[..., :3], trajectory[..., :3])
    assert Seen(told=fixed).put_back(trajectory, 3) is trajectory


def test_a_scheduler_is_read_as_it_was_built_and_another_one_is_refused() -> None:
    made = {"num_train_timesteps": 7, "beta_schedule": "linear", "prediction_type": "sample"}
    process = process_of(Named(made, "scheduler"))
    assert (process.num_steps, process.answers) == (7, "sample")
    assert not implicit(Named(made, "scheduler"), Named({}, "policy"))
    assert implicit(Named({**made, "_class_name": "DDIMScheduler"}, "scheduler"), Named({}, "policy"))
    for setting in ({"beta_schedule": "sigmoid"}, {"variance_type": "learned"}, {"steps_offset": 1}):
        with pytest.raises(InputError, match=rf"scheduler\.{next(iter(setting))}"):
            process_of(Named({**made, **setting}, "scheduler"))
