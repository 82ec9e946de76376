"""The loader of golden cases reads every recorded system, and the comparison with a case can fail."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crossroads.errors import InputError
from crossroads.parity.case import GoldenCase, Named, Tolerance
from crossroads.parity.compare import Produced, compare, table
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
        assert case.system == system, f"{system} says that it is {case.system}"


@pytest.mark.golden
@pytest.mark.usefixtures("golden_folder")
def test_recorded_outputs_equal_themselves_and_nothing_farther_than_their_tolerance() -> None:
    for system in ("pi0", "fast_wam"):
        case = load_golden(system)
        assert all(row.ok for row in compare(case, Produced(outputs=case.outputs)))
        moved = {name: value * 1.01 + 1.0 for name, value in case.outputs.items()}
        assert not any(row.ok for row in compare(case, Produced(outputs=moved)))


def test_a_missing_golden_folder_skips_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(pytest.skip.Exception, match=VARIABLE):
        load_golden("pi0")


@pytest.mark.golden
@pytest.mark.usefixtures("golden_folder")
def test_a_misspelt_system_or_output_suggests_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match="fast_wam"):
        load_golden("fast_wan")
    with pytest.raises(InputError, match="Did you mean 'attention_mask'"):
        load_golden("pi0").outputs["attention_maskk"]


def recorded(**outputs: Tensor) -> GoldenCase:
    meta = {"tolerance": {"atol": 0.5, "rtol": 0.25}, "suggested_abs_tolerance_per_output": {"own": 2.0}}
    nothing = Named[Tensor]({}, "nothing")
    return GoldenCase(
        system="made",
        folder=Path("made"),
        meta=Named(meta, "meta.json"),
        weights=nothing,
        inputs=nothing,
        outputs=Named(outputs, "outputs"),
    )


@pytest.mark.parametrize(
    ("name", "reference", "ours", "ratio"),
    [
        ("all", [2.0, 0.0], [3.0, 0.0], 1.0),  # may differ by 0.5 + 0.25 * 2
        ("all", [2.0, 0.0], [2.0, 0.6], 1.2),
        ("own", [8.0], [6.0], 1.0),
        ("own", [8.0], [5.0], 1.5),
        ("all", [math.inf, 1.0], [math.inf, 1.0], 0.0),
        ("all", [1.0, 1.0], [math.nan, 1.0], math.nan),
        ("all", [4, 7], [4, 7], 0.0),
        ("all", [4, 7], [4, 8], math.inf),  # integers must be equal
        ("all", [True, False], [True, True], math.inf),
    ],
)
def test_an_error_is_measured_against_its_tolerance(
    name: str, reference: list[float], ours: list[float], ratio: float
) -> None:
    case = recorded(**{name: torch.tensor(reference)})
    (row,) = compare(case, Produced(outputs={name: torch.tensor(ours)}))
    assert row.ratio == pytest.approx(ratio, nan_ok=True)
    assert row.ok == (ratio <= 1)
    assert ("BEYOND" in table([row])) == (not row.ok)


def test_outputs_that_are_missing_or_of_another_shape_or_wholly_uncounted_fail() -> None:
    case = recorded(absent=torch.ones(2), longer=torch.ones(2), unread=torch.ones(2), good=torch.ones(2))
    produced = Produced(
        outputs={"longer": torch.ones(1, 2), "unread": torch.ones(2), "good": torch.ones(2)},
        counts={"unread": torch.tensor(False)},
    )
    rows = {row.name: row for row in compare(case, produced)}
    assert {name for name, row in rows.items() if row.ok} == {"good"}
    assert rows["absent"].verdict == "not produced"
    assert "1 of 4 outputs within tolerance, 1 not produced" in table(list(rows.values()))


def test_only_what_is_read_is_compared_and_the_table_says_so() -> None:
    case = recorded(keys=torch.tensor([1.0, 1.0, 1.0]))
    ours, counts = {"keys": torch.tensor([9.0, 1.0, 1.0])}, torch.tensor([False, True, True])
    (row,) = compare(case, Produced(outputs=ours, counts={"keys": counts}))
    assert row.ok
    assert "ok, of 2 entries that are read" in table([row])
    assert not compare(case, Produced(outputs=ours, counts={"keys": ~counts}))[0].ok


def test_a_runner_may_state_the_tolerance_that_a_recording_gives_in_words() -> None:
    case = recorded(table=torch.ones(1))
    ours = {"table": torch.ones(1) + 0.6}
    assert compare(case, Produced(outputs=ours))[0].ok
    assert not compare(case, Produced(outputs=ours, tolerances={"table": Tolerance(absolute=0.5)}))[0].ok
