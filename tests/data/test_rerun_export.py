"""What Rerun reads from the export is what the dataset holds."""

from __future__ import annotations

import io
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recordings import FPS

from crossroads.cli import main
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.rerun_export import export
from crossroads.errors import InputError


def test_rerun_reads_numbers_words_and_pictures_at_their_times(dataset: LeRobotDataset, tmp_path: Path) -> None:
    chunk = pytest.importorskip("rerun.chunk", reason="NO RERUN: nothing was exported. pip install -e '.[rerun]'")
    out = export(dataset, tmp_path / "toy.rrd", [1, 4])
    found = defaultdict(list)
    for part in chunk.RrdReader(str(out)).stream():
        found[part.entity_path].append(part.to_record_batch())
    places = {path for path in found if not path.startswith("/__")}
    numbers = {f"/episode_000001/action/{name}" for name in dataset.space.action_names}
    numbers |= {f"/episode_000001/state/{name}" for name in dataset.space.state_names}
    seen = {f"/episode_{index:06d}/{name}" for index in (1, 4) for name in (*dataset.cameras, "instruction")}
    assert dataset.episodes[4].action_free
    assert places == numbers | seen
    for column, name in enumerate(dataset.space.action_names):
        (batch,) = found[f"/episode_000001/action/{name}"]
        values = [value for (value,) in batch["Scalars:scalars"].to_pylist()]
        np.testing.assert_array_equal(values, dataset.actions(1)[:, column].astype(float))
        seconds = [time.total_seconds() for time in batch["time"].to_pylist()]
        np.testing.assert_allclose(seconds, np.arange(len(values)) / FPS)
    assert found["/episode_000004/instruction"][0]["TextDocument:text"].to_pylist() == [[dataset.episodes[4].text]]
    blobs = [row[0] for batch in found["/episode_000001/front"] for row in batch["EncodedImage:blob"].to_pylist()]
    frames = dataset.frames(1, "front", None).astype(int)
    assert len(blobs) == len(frames)
    for blob, frame in zip(blobs, frames, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(bytes(blob)))).astype(int)
        assert (
            np.abs(frames - shown).mean(axis=(1, 2, 3)).argmin() == np.abs(frames - frame).mean(axis=(1, 2, 3)).argmin()
        )


def test_the_command_writes_the_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rerun", reason="NO RERUN: nothing was exported. pip install -e '.[rerun]'")
    assert main(["data", "rerun", str(folder), "--out", str(tmp_path / "toy.rrd"), "--episodes", "0"]) == 0
    assert "toy.rrd: 1 episode, 0." in capsys.readouterr().out
    assert main(["data", "rerun", str(folder), "--out", str(tmp_path / "other.rrd"), "--episodes", "12"]) == 2
    assert not (tmp_path / "other.rrd").exists()


def test_without_the_package_it_is_named(
    dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InputError, match=r"crossroads\[rerun\]"):
        export(dataset, tmp_path / "toy.rrd", [0])
