"""A conversion gives what the source held, verified, whole or not at all, and goes on where it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foreign_formats import encode, in_hdf5_order, write_hdf5, write_rlds, write_v2, write_zarr
from recordings import Recorded, episodes, write

from crossroads.cli import main
from crossroads.data import convert as converting
from crossroads.data import piece as pieces
from crossroads.data.check import check
from crossroads.data.convert import convert
from crossroads.data.formats.recognise import FORMATS, open_source, recognise
from crossroads.data.formats.source import BLOCK_FRAMES, Wanted
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.video import VideoWriter
from crossroads.errors import InputError

GIVEN = episodes(4)
CODEC_TOLERANCE = 1.5
"""Mean absolute error out of 255 that our codec may cost on moving blocks (see test_writer.py)."""
SAID = Wanted(fps=10, text="push the block")


def sources(folder: Path) -> dict[str, tuple[Path, Wanted, list[Recorded], dict[str, str]]]:
    """Per format: where it is, what must be said, the episodes in their order, and the names of the cameras."""
    libero = {"front": "front_rgb", "wrist": "wrist_rgb"}
    return {
        "lerobot": (write_v2(folder / "v2", GIVEN), Wanted(), GIVEN, {"front": "front", "wrist": "wrist"}),
        "hdf5": (write_hdf5(folder / "libero", GIVEN), Wanted(), in_hdf5_order(GIVEN), libero),
        "zarr": (write_zarr(folder / "buffer.zarr.zip", GIVEN), SAID, GIVEN, {"front": "camera0_rgb"}),
        "rlds": (write_rlds(folder / "rlds", GIVEN), Wanted(fps=10), GIVEN, {"front": "image", "wrist": "wrist_image"}),
    }


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Path, Wanted, list[Recorded], dict[str, str]]]:
    return sources(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_a_sound_dataset_of_the_same_episodes(name: str, everything: dict, tmp_path: Path) -> None:
    path, wanted, given, cameras = everything[name]
    assert recognise(path) == (name,)
    done = convert(path, tmp_path / "out", wanted=wanted)
    assert check(tmp_path / "out").findings == ()
    assert [item.name for item in tmp_path.iterdir()] == ["out"], "nothing is left beside it"
    dataset = LeRobotDataset.open(tmp_path / "out")
    assert set(dataset.cameras) == set(cameras.values())
    assert done.num_frames == dataset.num_frames
    for index, one in enumerate(given):
        np.testing.assert_array_equal(dataset.actions(index), one.actions)
        np.testing.assert_array_equal(dataset.state(index), one.state)
        assert dataset.episodes[index].text == (wanted.text or one.text)
        for short, long in cameras.items():
            if name != "lerobot":
                seen = dataset.frames(index, long, None).astype(int)
                assert np.abs(seen - one.images[short]).mean() < CODEC_TOLERANCE


def test_videos_of_an_old_dataset_are_taken_over_without_loss(everything: dict, tmp_path: Path) -> None:
    path, wanted, given, _ = everything["lerobot"]
    done = convert(path, tmp_path / "out", wanted=wanted)
    assert (done.num_taken_over, done.worst_psnr_db) == (2 * len(given), None)
    old, new = LeRobotDataset.open(path), LeRobotDataset.open(tmp_path / "out")
    assert len(list((tmp_path / "out/videos").rglob("*.mp4"))) == 2, "episodes are joined in one file per camera"
    for index in range(len(given)):
        for camera in old.cameras:
            np.testing.assert_array_equal(new.frames(index, camera, None), old.frames(index, camera, None))
    assert done.left_behind == ("next.reward",)
    assert new.info["features"]["observation.images.front"]["info"]["video.pix_fmt"] == "yuv420p"


def test_a_video_that_is_not_one_picture_per_frame_is_encoded_again(tmp_path: Path) -> None:
    path = write_v2(tmp_path / "v2", GIVEN[:1])
    video = path / "videos/chunk-000/observation.images.front/episode_000000.mp4"
    images = GIVEN[0].images["front"]
    encode(video, np.concatenate([images, images[:3]]))
    assert convert(path, tmp_path / "out", wanted=Wanted()).num_taken_over == 1


def test_lossless_means_that_every_bit_comes_back(everything: dict, tmp_path: Path) -> None:
    path, wanted, given, cameras = everything["hdf5"]
    done = convert(path, tmp_path / "out", wanted=wanted, lossless=True)
    assert "no picture lost anything" in str(done)
    dataset = LeRobotDataset.open(tmp_path / "out")
    for index, one in enumerate(given):
        for short, long in cameras.items():
            np.testing.assert_array_equal(dataset.frames(index, long, None), one.images[short])


def test_turned_pictures_are_turned_by_half_a_circle(everything: dict, tmp_path: Path) -> None:
    path, wanted, given, _ = everything["hdf5"]
    convert(path, tmp_path / "out", wanted=wanted, lossless=True, turned=True)
    seen = LeRobotDataset.open(tmp_path / "out").frames(1, "front_rgb", None)
    np.testing.assert_array_equal(seen, given[1].images["front"][:, ::-1, ::-1])


def test_long_episodes_pass_block_by_block(tmp_path: Path) -> None:
    length = BLOCK_FRAMES + 5
    generator = np.random.default_rng(0)
    pictures = np.stack([np.roll(generator.integers(0, 256, (16, 16, 3), np.uint8), step, 1) for step in range(length)])
    with h5py.File(tmp_path / "long.hdf5", "w") as file:
        file["data/demo_0/actions"], file["data/demo_0/obs/joints"] = np.zeros((length, 1)), np.zeros((length, 1))
        file["data/demo_0/obs/cam"] = pictures
    wanted = Wanted(fps=10, text="go", state=("joints",))
    convert(tmp_path / "long.hdf5", tmp_path / "out", wanted=wanted, lossless=True)
    np.testing.assert_array_equal(LeRobotDataset.open(tmp_path / "out").frames(0, "cam", None), pictures)


def test_a_new_dataset_keeps_sessions_limits_and_what_has_no_actions(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "out", wanted=Wanted(), leave_out=(0, 7))
    before, after = LeRobotDataset.open(folder), LeRobotDataset.open(tmp_path / "out")
    kept = [episode for episode in before.episodes if episode.index not in (0, 7)]
    assert after.space == before.space
    assert [(e.text, e.session, e.action_free) for e in after.episodes] == [
        (e.text, e.session, e.action_free) for e in kept
    ]


# ---- nothing half-written, nothing done twice ----

KILLED = """
import os, pathlib, shutil, signal, sys
import numpy
from crossroads.data import convert as converting, piece as pieces
from crossroads.data.formats.source import Wanted
from crossroads.data.writer import LeRobotWriter
def after(times, place, name):
    whole, left = getattr(place, name), [times]
    def do(*words, **more):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*words, **more)
    setattr(place, name, do)
source, folder = map(pathlib.Path, sys.argv[1:])
moments = [(2, numpy, "savez"), (1, pieces, "sync"), (3, pieces, "read_piece"), (2, LeRobotWriter, "join_episode"),
           (0, converting, "hashes"), (0, LeRobotWriter, "finalise"),
           (0, converting, "_summary"), (1, converting, "_summary")]
for number, (times, place, name) in enumerate(moments):
    child = os.fork()
    if child == 0:
        after(times, place, name)
        converting.convert(source, folder / str(number) / "out", wanted=Wanted())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def undisturbed(everything: dict, tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    path, wanted, _, _ = everything["hdf5"]
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    convert(path, out, wanted=wanted)
    return LeRobotDataset.open(out)


def test_killed_at_any_step_the_same_command_goes_on_to_the_same_bytes(
    everything: dict, undisturbed: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wanted, given, _ = everything["hdf5"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert set(done.stdout.split()) == {"-9"}
    made: list[int] = []
    make = converting.make_piece  # pyright: ignore[reportPrivateImportUsage]
    monkeypatch.setattr(converting, "make_piece", lambda s, i, *a, **m: (made.append(i), make(s, i, *a, **m))[1])
    for folder in sorted(tmp_path.iterdir()):
        out, work = folder / "out", folder / ".out.converting"
        finished = len(list((work / "episodes").glob("0*"))) if work.exists() else len(given)
        if out.exists():
            assert check(out).sound, "what has the name is complete"
        made.clear()
        again = convert(path, out, wanted=wanted)
        assert len(made) == len(given) - finished, "a finished episode is not done again"
        assert again.num_resumed == finished
        assert LeRobotDataset.open(out).content_hash() == undisturbed.content_hash()
        assert [item.name for item in folder.iterdir()] == ["out"]


def test_killed_at_random_moments_nothing_half_written_can_be_read(tmp_path: Path) -> None:
    # `make kills` does it many times; a handful here.
    script = Path(__file__).with_name("kill_conversions.py")
    command = [sys.executable, str(script), "4", str(tmp_path / "kills")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "killed while" in done.stdout


def test_the_same_command_after_the_end_changes_nothing(everything: dict, tmp_path: Path) -> None:
    path, wanted, given, _ = everything["zarr"]
    first = convert(path, tmp_path / "out", wanted=wanted)
    written = (tmp_path / "out/meta/info.json").stat().st_mtime_ns
    again = convert(path, tmp_path / "out", wanted=wanted)
    assert (first.num_resumed, again.num_resumed) == (0, len(given))
    assert (tmp_path / "out/meta/info.json").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="never overwritten"):
        convert(path, tmp_path / "out", wanted=Wanted(fps=20, text="push"))


def interrupt(monkeypatch: pytest.MonkeyPatch, path: Path, out: Path, wanted: Wanted) -> Path:
    """Convert the first two episodes and stop; the folder of the work."""
    make = pieces.make_piece

    def stopping(source: Any, index: int, *words: Any, **more: Any) -> Any:
        if index == 2:
            raise KeyboardInterrupt
        return make(source, index, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(converting, "make_piece", stopping)
        with pytest.raises(KeyboardInterrupt):
            convert(path, out, wanted=wanted)
    return out.parent / f".{out.name}.converting"


def test_a_source_or_an_option_that_changed_in_between_is_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_hdf5(tmp_path / "libero", GIVEN)
    interrupt(monkeypatch, path, tmp_path / "out", Wanted())
    with pytest.raises(InputError, match="another lossless"):
        convert(path, tmp_path / "out", wanted=Wanted(), lossless=True)
    with h5py.File(path / "do_thing_0_demo.hdf5", "r+") as file:
        file["data/demo_0/actions"][0] += 1  # pyright: ignore
    with pytest.raises(InputError, match="another source_files_sha256"):
        convert(path, tmp_path / "out", wanted=Wanted())


def test_a_finished_piece_that_was_damaged_is_made_again(
    everything: dict, undisturbed: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wanted, _, _ = everything["hdf5"]
    work = interrupt(monkeypatch, path, tmp_path / "out", wanted)
    video = work / "episodes/000000/camera_0.mp4"
    data = bytearray(video.read_bytes())
    data[len(data) // 2] ^= 1
    video.write_bytes(data)
    (work / "episodes/000001/numbers.npz").write_bytes(b"")
    assert convert(path, tmp_path / "out", wanted=wanted).num_resumed == 0
    assert LeRobotDataset.open(tmp_path / "out").content_hash() == undisturbed.content_hash()


def test_two_processes_do_not_write_to_one_place(everything: dict, tmp_path: Path) -> None:
    path, wanted, _, _ = everything["zarr"]
    source = open_source(path, wanted)
    plan = converting._plan(source.facts, wanted, lossless=False, turned=False, chosen=tuple(range(4)))
    with (
        converting._claimed(tmp_path / ".out.converting", plan),
        pytest.raises(InputError, match="one that holds the lock"),
    ):
        convert(path, tmp_path / "out", wanted=wanted)


# ---- what was written is not what was read ----


def test_a_picture_that_is_not_the_one_that_was_read_is_noticed(
    everything: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wanted, _, _ = everything["hdf5"]
    append = VideoWriter.append
    monkeypatch.setattr(
        VideoWriter, "append", lambda self, frames: append(self, frames[[1, 0, *range(2, len(frames))]])
    )
    with pytest.raises(InputError, match=r"to 30 dB or better, got 1\d"):
        convert(path, tmp_path / "out", wanted=wanted)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("what", "told"), [("state", "other numbers"), ("packets_sha256", "other pictures")])
def test_a_joined_dataset_that_differs_from_its_pieces_does_not_get_its_name(
    what: str, told: str, everything: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wanted, _, _ = everything["hdf5"]
    if what == "state":
        monkeypatch.setattr(converting, "numbers_hash", lambda state, actions, text: "another")
    else:
        monkeypatch.setattr(converting, "hashes", lambda path, starts: [("another", 1) for _ in starts])
    with pytest.raises(InputError, match=told):
        convert(path, tmp_path / "out", wanted=wanted)
    assert not (tmp_path / "out").exists()
    assert [item.name for item in tmp_path.iterdir()] == [".out.converting"], "the pieces are kept"


def spoil(name: str, value: object) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        del file[f"data/demo_0/{name}"]
        file[f"data/demo_0/{name}"] = value

    return do


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (spoil("actions", np.full((9, 2), np.nan)), "finite numbers"),
        (spoil("actions", np.zeros((9, 3))), "of 2 numbers, as in the first episode"),
        (spoil("actions", np.zeros((2, 2))), "shape ("),
        (spoil("obs/front_rgb", np.zeros((3, 32, 48, 3), np.uint8)), "pictures, one per step"),
        (spoil("obs/front_rgb", np.zeros((99, 32, 48, 3), np.uint8)), "pictures of 32 x 48"),
        (spoil("obs/front_rgb", np.zeros((9, 16, 16, 3), np.uint8)), "pictures of 32 x 48"),
    ],
)
def test_an_episode_that_cannot_be_converted_is_named_and_can_be_left_out(
    damage: Callable[[h5py.File], None], told: str, tmp_path: Path
) -> None:
    path = write_hdf5(tmp_path / "libero", GIVEN)
    with h5py.File(path / "do_thing_2_demo.hdf5", "r+") as file:
        damage(file)
    with pytest.raises(InputError, match="episode 2") as caught:
        convert(path, tmp_path / "out", wanted=Wanted())
    assert told in str(caught.value)
    assert "--leave-out 2" in str(caught.value)
    done = convert(path, tmp_path / "out", wanted=Wanted(), leave_out=(2,))
    assert (done.num_episodes, done.num_resumed) == (3, 2)


# ---- which format ----


def test_a_format_that_is_not_known_gets_the_list_of_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match="none of their marks") as caught:
            convert(path, tmp_path / "out", wanted=Wanted())
        assert all(name in str(caught.value) for name in FORMATS)
    with pytest.raises(InputError, match="nothing there"):
        convert(tmp_path / "absent", tmp_path / "out", wanted=Wanted())
    with pytest.raises(InputError, match="Did you mean 'hdf5'"):
        convert(tmp_path, tmp_path / "out", wanted=Wanted(), format="hdf")


def test_an_ambiguous_folder_is_refused_until_a_format_is_chosen(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "both", GIVEN[:2])
    write(tmp_path / "toy", GIVEN[:2]).rename(path / "toy")
    for part in (path / "toy").iterdir():
        part.rename(path / part.name)
    with pytest.raises(InputError, match="marks of lerobot and of hdf5"):
        convert(path, tmp_path / "out", wanted=Wanted())
    assert convert(path, tmp_path / "out", wanted=Wanted(), format="hdf5").format == "hdf5"


def test_an_episode_whose_words_change_on_the_way_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "toy", GIVEN[:2])
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    tasks = pa.array([1, *table["task_index"].to_pylist()[1:]])
    pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", tasks), file)
    with pytest.raises(InputError, match="one instruction for the whole episode"):
        convert(path, tmp_path / "out", wanted=Wanted())
    assert convert(path, tmp_path / "out", wanted=Wanted(text="go")).num_episodes == 2


def test_the_command_says_what_it_did(everything: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _, _, _ = everything["zarr"]
    out = tmp_path / "out"
    command = ["data", "convert", str(path), str(out), "--from", "zarr", "--fps", "10", "--text", "push", "--quiet"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "4 episodes" in said
    assert "from zarr" in said
    record = json.loads((out / "meta/conversion.json").read_text())
    assert record["plan"]["text"] == "push"
    assert main(["data", "convert", str(tmp_path), str(out)]) == 2
