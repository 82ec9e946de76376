"""The loader of golden cases reads every recorded system, and its comparison can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from golden import VARIABLE, golden_systems, load_golden


@pytest.mark.golden
@pytest.mark.usefixtures("golden_folder")
def test_every_recorded_case_loads_with_inputs_and_outputs() -> None:
    systems = golden_systems()
    assert {"pi0", "fast_wam", "wan_block"} <= set(systems)
    for system in systems:
        case = load_golden(system)
        assert case.inputs, f"{system} has no inputs"
        assert case.outputs, f"{system} has no outputs"
        assert case.meta["system"], f"{system} does not say what it is"


@pytest.mark.golden
@pytest.mark.usefixtures("golden_folder")
def test_a_recorded_output_equals_itself_and_nothing_farther_than_its_tolerance() -> None:
    for system in ("pi0", "fast_wam"):
        case = load_golden(system)
        name = next(name for name, value in case.outputs.items() if value.is_floating_point() and value.numel() > 1)
        case.assert_close(name, case.outputs[name].clone())
        with pytest.raises(AssertionError):
            case.assert_close(name, case.outputs[name] * 1.01 + 0.01)


def test_a_missing_golden_folder_skips_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(pytest.skip.Exception, match=VARIABLE):
        load_golden("pi0")


@pytest.mark.golden
@pytest.mark.usefixtures("golden_folder")
def test_a_misspelt_system_or_output_suggests_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match="fast_wam"):
        load_golden("fast_wan")
    case = load_golden("pi0")
    with pytest.raises(KeyError, match="no output"):
        case.assert_close("attention_maskk", torch.zeros(1))
