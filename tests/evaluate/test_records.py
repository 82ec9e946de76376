"""Episode records survive the disk unchanged, and a damaged file says where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossroads.errors import InputError
from crossroads.evaluate.records import EpisodeRecord, read_records, write_records

RECORD = EpisodeRecord(
    arm="pi0",
    cell="25 labels",
    training_seed=0,
    seed=7,
    family="push",
    text="push the red cube left",
    goal="push red cube left",
    named_object="red cube",
    num_objects=4,
    swapped=False,
    success=True,
    touched=("red cube",),
    achieved=("push red cube left",),
    old_goal_achieved=False,
    num_steps=41,
    latencies_s=(0.01, 0.0125),
)


@given(text=st.text(max_size=30), latencies=st.lists(st.floats(0, 10), max_size=4), success=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, text: str, latencies: list[float], success: bool) -> None:
    changed = dataclasses.replace(RECORD, text=text, latencies_s=tuple(latencies), success=success)
    write_records(tmp_path / "cell" / "episodes.jsonl", [RECORD, changed])
    assert read_records(tmp_path / "cell" / "episodes.jsonl") == (RECORD, changed)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    write_records(path, [RECORD])
    with pytest.raises(ValueError, match="JSON"):
        write_records(path, [RECORD, dataclasses.replace(RECORD, latencies_s=(float("nan"),))])
    assert read_records(path) == (RECORD,)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ""] == ["episodes.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suces": True}, "line 2.*Did you mean 'success'"),
        ({"success": 1}, "line 2, success.*expected bool, got 1"),
        ({"touched": "red cube"}, "list of str"),
        ({"num_steps": 4.5}, "expected int"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "episodes.jsonl"
    good = dataclasses.asdict(RECORD)
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(InputError, match=message):
        read_records(path)


def test_a_cut_off_file_and_a_missing_one_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    write_records(path, [RECORD, RECORD])
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"line 2.*evaluate this cell again"):
        read_records(path)
    with pytest.raises(InputError, match="no such file"):
        read_records(tmp_path / "none.jsonl")
