"""LeRobot itself reads what we write and convert, and we read what LeRobot writes and converts.

Set CROSSROADS_LEROBOT_PYTHON to the interpreters of environments that hold LeRobot, separated by colons.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_formats import in_hdf5_order, write_groot, write_hdf5, write_rlds, write_v2, write_zarr
from recordings import FPS, Recorded

from crossroads.data.cache import FrameCache
from crossroads.data.convert import convert
from crossroads.data.formats.source import Wanted
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.types import NOTHING

VARIABLE = "CROSSROADS_LEROBOT_PYTHON"
BACKENDS = os.environ.get("CROSSROADS_LEROBOT_BACKENDS", "pyav").split(":")
SCRIPT = Path(__file__).with_name("lerobot_peer.py")
PYTHONS = [python for python in os.environ.get(VARIABLE, "").split(":") if python]

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not PYTHONS, reason=f"no LeRobot: ${VARIABLE} names no interpreter on this machine"),
]


def run(python: str, *words: str | Path, home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_DATASETS_CACHE": str(home / "datasets")}
    done = subprocess.run(
        [python, str(SCRIPT), *map(str, words)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("python", PYTHONS)
def test_lerobot_returns_the_frames_and_actions_that_we_read_from_our_folder(
    python: str, backend: str, dataset: LeRobotDataset, recorded: list[Recorded], tmp_path: Path
) -> None:
    run(python, "read", dataset.path, tmp_path / "seen.npz", backend, home=tmp_path)
    seen = np.load(tmp_path / "seen.npz")
    assert len(seen["action"]) == dataset.num_frames
    for episode, one in zip(dataset.episodes, recorded, strict=True):
        rows = episode.rows
        expected = np.zeros_like(one.actions) if one.action_free else one.actions
        np.testing.assert_array_equal(seen["action"][rows], expected)
        np.testing.assert_array_equal(seen["observation.state"][rows], dataset.state(episode))
        assert set(seen["texts"][rows]) == {one.text}
        assert set(seen["session"][rows].ravel().tolist()) == {one.session}
        assert set(seen["action_free"][rows].ravel().tolist()) == {one.action_free}
        for camera in dataset.cameras:
            theirs = seen[f"observation.images.{camera}"][rows].astype(int)
            ours = dataset.frames(episode, camera, None).astype(int)
            assert np.abs(theirs - ours).max() <= 3, "the same frame, up to the colour rounding of another decoder"
    np.testing.assert_allclose(
        seen["mean"], dataset.statistics("action", [e.index for e in dataset.episodes]).mean, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("python", PYTHONS)
def test_we_read_what_lerobots_own_writer_wrote(
    python: str, kind: str, recorded: list[Recorded], tmp_path: Path
) -> None:
    given = recorded[:5]
    arrays: dict[str, Any] = {"num_episodes": np.array(len(given))}
    arrays |= {f"images_{index}": one.images["front"] for index, one in enumerate(given)}
    arrays |= {f"state_{index}": one.state for index, one in enumerate(given)}
    arrays |= {f"actions_{index}": one.actions for index, one in enumerate(given)}
    np.savez(tmp_path / "given.npz", **arrays)
    run(python, "write", tmp_path / "theirs", tmp_path / "given.npz", kind, home=tmp_path)
    dataset = LeRobotDataset.open(tmp_path / "theirs")
    assert dataset.cameras == ("cam.front",)
    assert dataset.space.robot == "peer"
    assert dataset.space.state_names == ("a", "b", "c")
    assert dataset.space.action_names == ("x", "y")
    assert dataset.fps == FPS
    assert [episode.text for episode in dataset.episodes] == [f"task {index % 2}" for index in range(len(given))]
    for index, one in enumerate(given):
        np.testing.assert_array_equal(dataset.actions(index), one.actions)
        np.testing.assert_array_equal(dataset.state(index), one.state)
        frames = dataset.frames(index, "cam.front", None).astype(int)
        distance = np.abs(frames[:, None] - one.images["front"]).mean(axis=(2, 3, 4))
        nearest = distance.argmin(axis=1)
        assert nearest.tolist() == list(range(one.images["front"].shape[0])), "no frame is early, late or another's"
        if kind == "image":
            assert not distance.diagonal().any()
        shuffled = [len(frames) - 1, 0, 2, 2]
        np.testing.assert_array_equal(dataset.frames(index, "cam.front", shuffled), frames[shuffled])
    window = replace(
        NOTHING,
        cameras=("cam.front",),
        image_hw=(16, 24),
        num_state=3,
        num_actions=4,
        action_size=2,
        control_hz=FPS,
        future_s=(0.2,),
    )
    cache = FrameCache.open(dataset, cameras=("cam.front",), image_hw=(16, 24))
    windows = Windows(dataset, window, episodes=range(len(given)), cache=cache)
    batch = windows.batch([0, len(windows) - 1])
    assert batch.actions_valid.tolist() == [[True] * 4, [True, False, False, False]]


@pytest.mark.parametrize("python", PYTHONS)
def test_lerobots_converter_and_ours_make_the_same_of_a_v21_dataset(
    python: str, recorded: list[Recorded], tmp_path: Path
) -> None:
    given = [one for one in recorded if not one.action_free][:4]
    path = write_v2(tmp_path / "theirs", given)
    before = LeRobotDataset.open(path)
    frames = {(e, c): before.frames(e, c, None) for e in range(len(given)) for c in before.cameras}
    convert(path, tmp_path / "ours", wanted=Wanted())
    run(python, "convert", path, "-", "-", home=tmp_path)
    theirs, ours = LeRobotDataset.open(path), LeRobotDataset.open(tmp_path / "ours")
    assert theirs.info["codebase_version"] == ours.info["codebase_version"] == "v3.0"
    assert [e.text for e in theirs.episodes] == [e.text for e in ours.episodes] == [one.text for one in given]
    np.testing.assert_array_equal(theirs.tables.actions, ours.tables.actions)
    np.testing.assert_array_equal(theirs.tables.state, ours.tables.state)
    for (episode, camera), seen in frames.items():
        np.testing.assert_array_equal(theirs.frames(episode, camera, None), seen)
        np.testing.assert_array_equal(ours.frames(episode, camera, None), seen)


def source(kind: str, path: Path, given: list[Recorded]) -> tuple[Path, list[Recorded], Wanted]:
    """The recordings in a foreign format, in the order in which they lie there, and what must be said to read it."""
    if kind in ("v2.1", "v2.0"):
        return write_v2(path, given, version=kind), given, Wanted()
    if kind == "modality":
        return write_groot(path, given), given, Wanted()
    if kind in ("hdf5", "hdf5 lossless"):
        return write_hdf5(path, given), in_hdf5_order(given), Wanted()
    if kind == "zarr":
        told = [replace(one, text="do it") for one in given]
        return write_zarr(path, told), told, Wanted(fps=FPS, text="do it")
    return write_rlds(path, given), given, Wanted(fps=FPS)


@pytest.mark.parametrize("kind", ["v2.1", "v2.0", "modality", "hdf5", "hdf5 lossless", "zarr", "rlds"])
@pytest.mark.parametrize("python", PYTHONS)
def test_lerobot_reads_what_we_converted(python: str, kind: str, recorded: list[Recorded], tmp_path: Path) -> None:
    path, given, wanted = source(kind, tmp_path / "source", [one for one in recorded if not one.action_free][:4])
    convert(path, tmp_path / "ours", wanted=wanted, lossless=kind == "hdf5 lossless")
    run(python, "read", tmp_path / "ours", tmp_path / "seen.npz", BACKENDS[0], home=tmp_path)
    seen, dataset = np.load(tmp_path / "seen.npz"), LeRobotDataset.open(tmp_path / "ours")
    np.testing.assert_array_equal(seen["action"], np.concatenate([one.actions for one in given]))
    assert seen["texts"].tolist() == [one.text for one in given for _ in one.actions]
    for camera in dataset.cameras:
        theirs = seen[f"observation.images.{camera}"].astype(int)
        ours = np.concatenate([dataset.frames(episode, camera, None) for episode in dataset.episodes]).astype(int)
        assert np.abs(theirs - ours).max() <= (0 if kind == "hdf5 lossless" else 3)
