"""The predictability gap held against who won: what is read from reports, and what is not claimed from few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossroads.errors import InputError
from crossroads.pilot.gaps import ENOUGH, gap_table, read_outcomes


def _report(folder: Path, run: str, *, gap: float, wam: int, vla: int, labels: int = 60, closed: bool = True) -> Path:
    """The parts of a pilot's report that are read."""
    arms = [{"name": "pi0", "kind": "VLA"}, {"name": "fast_wam", "kind": "WAM"}, {"name": "idm", "kind": "WAM"}]
    successes = {"pi0": vla, "fast_wam": wam - 1, "idm": wam}
    plain = {
        "arms": arms,
        "verdict": {"status": "inconclusive", "comparisons": [{"wam": "idm", "wam_success": wam / 100}]},
        "closed_loop": {
            "curves": [
                {"arm": name, "labels": at, "successes": num, "trials": 100}
                for name, num in successes.items()
                for at in ((labels, 300) if name != "fast_wam" else (labels,))
            ]
        }
        if closed
        else None,
        "offline": {"predictability": [{"labels": 300, "r2_present": 0.1, "r2_future": 0.1 + gap, "chunks": 9}]},
        "provenance": {"run_id": run, "data": "tabletop", "date": "2026-11-21"},
    }
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(plain))
    return folder


def test_an_outcome_is_the_lead_of_the_best_wam_at_each_number_of_labels(tmp_path: Path) -> None:
    _report(tmp_path / "one", "a", gap=0.5, wam=40, vla=50)
    planned, unplanned = read_outcomes([tmp_path])
    assert planned.gap == pytest.approx(0.5)
    assert (planned.labels, planned.best_wam, planned.trials, planned.verdict) == (60, "idm", 100, "inconclusive")
    assert planned.difference == pytest.approx(-0.10)
    assert (unplanned.labels, unplanned.gap_labels) == (300, 300)


def test_a_run_that_lies_in_two_folders_counts_once_and_one_without_a_simulator_has_no_outcome(tmp_path: Path) -> None:
    _report(tmp_path / "one", "a", gap=0.5, wam=40, vla=50)
    _report(tmp_path / "copy", "a", gap=0.5, wam=40, vla=50)
    _report(tmp_path / "offline", "b", gap=0.2, wam=0, vla=0, closed=False)
    outcomes = read_outcomes([tmp_path])
    assert len(outcomes) == 3
    assert [it.difference is None for it in outcomes if it.gap == pytest.approx(0.2)] == [True]


def test_from_few_pilots_nothing_is_claimed(tmp_path: Path) -> None:
    for run in range(ENOUGH - 1):
        _report(tmp_path / f"{run}", f"{run}", gap=0.1 * run, wam=40 + run, vla=50, labels=300)
    assert "too few" in gap_table(read_outcomes([tmp_path]))


@pytest.mark.parametrize(("sign", "told"), [(1, "+1.00"), (-1, "-1.00")])
def test_from_enough_pilots_the_correlation_has_the_sign_of_the_relation(tmp_path: Path, sign: int, told: str) -> None:
    for run in range(ENOUGH + 2):
        _report(tmp_path / f"{run}", f"{run}", gap=0.08 * run, wam=50 + sign * 3 * (run - 5), vla=50, labels=300)
    table = gap_table(read_outcomes([tmp_path]))
    assert f"lead {told} (permutation p = 0.00)" in table


def test_a_folder_without_a_report_or_with_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a folder with the report\.json"):
        read_outcomes([tmp_path])
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match="expected the report of a pilot"):
        read_outcomes([tmp_path])
