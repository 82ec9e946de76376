"""A file that stays open gives the pictures of a plain decode, whichever are asked for, and decodes no others."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import moving_blocks

from crossroads.data.open_video import OpenVideo, open_video
from crossroads.data.video import VideoWriter, decode
from crossroads.errors import InputError

NUM, FPS = 30, 10.0
ENCODINGS = {
    "av1, a key frame in every second": ("libsvtav1", {"g": "2", "crf": "30", "preset": "12"}),
    "h264, short groups": ("libx264", {"g": "4", "bf": "0", "preset": "ultrafast"}),
    "h264, pictures out of order": ("libx264", {"g": "12", "bf": "3", "b-adapt": "0", "preset": "medium"}),
    "mpeg4": ("mpeg4", {"g": "6"}),
}


def _encode(path: Path, encoding: str, *, seed: int = 0) -> Path:
    codec, options = ENCODINGS[encoding]
    pictures = moving_blocks(NUM, (64, 64), np.random.default_rng(seed))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(FPS), options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for place, picture in enumerate(pictures):
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = place, 1 / Fraction(FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _plain(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module", params=list(ENCODINGS))
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[OpenVideo, np.ndarray]:
    path = _encode(tmp_path_factory.mktemp("encoded") / "video.mp4", request.param)
    return OpenVideo(path), _plain(path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.sets(st.integers(0, NUM - 1), max_size=12))
def test_any_pictures_of_an_open_file_are_those_of_a_plain_decode(
    encoded: tuple[OpenVideo, np.ndarray], places: set[int]
) -> None:
    """The same file is asked again and again, forward and back."""
    video, expected = encoded
    wanted = np.array(sorted(places), np.int64)
    np.testing.assert_array_equal(video.frames(wanted / FPS, tolerance_s=0.04), expected[wanted])


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_a_picture_that_the_decoder_has_passed_is_read_again_with_a_later_one_of_its_group(
    encoding: str, tmp_path: Path
) -> None:
    """The decoder stands between two wanted pictures of one group, each time after the first of them."""
    path = _encode(tmp_path / "video.mp4", encoding)
    video, expected = OpenVideo(path), _plain(path)
    for places in ([0], [0, 1], [0, 3], [1], [1, 3], [8, 9], [9, 11, 13]):
        np.testing.assert_array_equal(video.frames(np.array(places) / FPS, tolerance_s=0.04), expected[places])
    video.close()


def test_pictures_that_a_decoder_holds_back_are_asked_for(tmp_path: Path) -> None:
    """A decoder with two threads gives each picture one packet late."""
    path = _encode(tmp_path / "video.mp4", "h264, short groups")
    video, expected = OpenVideo(path), _plain(path)
    video._stream.codec_context.thread_count, video._stream.codec_context.thread_type = 2, "FRAME"
    for places in ([0], [3, 4, 20, 29], [5], [6, 7], [2]):
        np.testing.assert_array_equal(video.frames(np.array(places) / FPS, tolerance_s=0.04), expected[places])
    video.close()


@pytest.mark.parametrize(
    ("places", "num_decoded"),
    [
        ([0, 2, 4, 6], 4),  # key frames: what lies between is passed over
        ([1, 2, 5], 5),  # a picture after a key frame needs that one too
        ([7, 8, 9], 4),
        ([], 0),
    ],
)
def test_only_pictures_that_others_depend_on_are_decoded(
    places: list[int], num_decoded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = OpenVideo(_encode(tmp_path / "video.mp4", "av1, a key frame in every second"))
    counted: list[int] = []
    keep = OpenVideo._keep
    monkeypatch.setattr(OpenVideo, "_keep", lambda *given: (counted.append(len(given[1])), keep(*given)))
    video.frames(np.array(places) / FPS, tolerance_s=0.04)
    assert sum(counted) == num_decoded
    video.close()


def test_reading_on_decodes_each_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = OpenVideo(_encode(tmp_path / "video.mp4", "h264, short groups"))
    counted: list[int] = []
    keep = OpenVideo._keep
    monkeypatch.setattr(OpenVideo, "_keep", lambda *given: (counted.append(len(given[1])), keep(*given)))
    for start in range(0, NUM, 3):
        video.frames(np.arange(start, start + 3) / FPS, tolerance_s=0.04)
    assert sum(counted) == NUM
    video.close()


@pytest.mark.parametrize("encoding", ["h264, short groups", "h264, pictures out of order"])
def test_a_time_without_a_picture_is_told(encoding: str, tmp_path: Path) -> None:
    path = _encode(tmp_path / "video.mp4", encoding)
    with pytest.raises(InputError, match=r"video.mp4 at 3.000 s: expected a frame within 0.0400 s"):
        decode(path, [0.1, 3.0], tolerance_s=0.04)
    with pytest.raises(InputError, match=r"at 0.150 s"):
        decode(path, [0.1, 0.15], tolerance_s=0.04)
    np.testing.assert_array_equal(decode(path, [0.1], tolerance_s=0.04), _plain(path)[1:2])


def test_a_file_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    path = _encode(tmp_path / "video.mp4", "h264, short groups")
    before = decode(path, [0.5], tolerance_s=0.04)
    other = _encode(tmp_path / "other.mp4", "h264, short groups", seed=1)
    expected = _plain(other)[5:6]
    os.replace(other, path)
    after = decode(path, [0.5], tolerance_s=0.04)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, expected)


def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossroads.data.open_video.MOST_OPEN", 2)
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    for path in paths:
        writer = VideoWriter(path, fps=FPS, image_hw=(32, 32))
        writer.append(np.zeros((2, 32, 32, 3), np.uint8))
        writer.close()
    opened = [open_video(path) for path in paths]
    assert open_video(paths[2]) is opened[2]
    assert open_video(paths[1]) is opened[1]
    assert open_video(paths[0]) is not opened[0]
    decode(paths[1], [0.1], tolerance_s=0.04)  # closed meanwhile, and opened again


def test_a_damaged_file_is_closed_and_told_each_time(tmp_path: Path) -> None:
    path = _encode(tmp_path / "video.mp4", "h264, short groups")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(InputError, match=r"expected a readable mp4 file|expected a frame within"):
            decode(path, np.arange(NUM) / FPS, tolerance_s=0.04)
    path.write_bytes(whole)
    assert len(decode(path, np.arange(NUM) / FPS, tolerance_s=0.04)) == NUM
