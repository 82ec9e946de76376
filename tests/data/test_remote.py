"""A dataset behind a URL is the dataset itself: over HTTP, in an S3 bucket, through faults and within a small disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from foreign_formats import write_v2
from recordings import FPS, episodes, write

from crossroads.cli import main
from crossroads.data import remote
from crossroads.data.check import check
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.remote import Remote
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.types import NOTHING


class Server(ThreadingHTTPServer):
    """Counts what it is asked for, and answers with the next of its faults, if any: a status, or 0 for half a file."""

    asked: list[str]
    faults: list[int]


class Handler(SimpleHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if not self.server.faults or self.path.endswith("/"):
            super().do_GET()
            return
        if fault := self.server.faults.pop(0):
            self.send_error(fault)
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("served")
    write(base / "toy", episodes(6), data_file_mb=0.001, video_file_mb=0.002)
    write_v2(base / "old", episodes(3))
    return base


@pytest.fixture
def server(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAIT_S", 0.0)
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(base))) as serving:
        serving.asked, serving.faults = [], []
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def url_of(server: Server, name: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def windows(dataset: LeRobotDataset) -> Windows:
    window = replace(
        NOTHING,
        cameras=dataset.cameras,
        image_hw=(32, 48),
        num_actions=4,
        action_size=2,
        control_hz=FPS,
        future_s=(0.2,),
    )
    return Windows(dataset, window, episodes=range(len(dataset.episodes)), cache=None)


def assert_same(far: LeRobotDataset, near: LeRobotDataset) -> None:
    assert list(far.episodes) == list(near.episodes)
    assert far.content_hash() == near.content_hash()
    chosen = np.random.default_rng(0).permutation(len(windows(near)))[:8]
    one, two = windows(far).batch(chosen), windows(near).batch(chosen)
    assert torch.equal(one.actions, two.actions)
    for camera in near.cameras:
        assert torch.equal(one.obs.images[camera], two.obs.images[camera])
        assert torch.equal(one.future[camera], two.future[camera])


@pytest.mark.parametrize("name", ["toy", "old"])
def test_over_http_it_is_the_same_dataset(server: Server, base: Path, name: str) -> None:
    assert_same(LeRobotDataset.open(url_of(server, name)), LeRobotDataset.open(base / name))


def test_a_video_is_fetched_when_it_is_looked_at_and_then_kept(server: Server) -> None:
    dataset = LeRobotDataset.open(url_of(server, "toy"))
    assert not [path for path in server.asked if path.endswith(".mp4")]
    dataset.frames(0, "front", [0])
    dataset.frames(0, "front", [3])
    assert len([path for path in server.asked if path.endswith(".mp4")]) == 1
    before = len(server.asked)
    LeRobotDataset.open(url_of(server, "toy")).frames(0, "front", [2])
    told = [path for path in server.asked[before:] if "info.json" not in path]
    assert all(server_lacks in path for path in told for server_lacks in ["/meta/"]), (
        "only what was absent is asked for"
    )


def test_faults_of_the_network_are_tried_again(server: Server, base: Path) -> None:
    server.faults = [503, 0, 500]
    dataset = LeRobotDataset.open(url_of(server, "toy"))
    server.faults = [0, 502, 0]
    np.testing.assert_array_equal(
        dataset.frames(2, "wrist", None), LeRobotDataset.open(base / "toy").frames(2, "wrist", None)
    )
    assert server.faults == []


def test_a_server_that_stays_silent_is_named_and_what_was_fetched_is_kept(server: Server) -> None:
    dataset = LeRobotDataset.open(url_of(server, "toy"))
    server.faults = [503] * 5
    with pytest.raises(InputError, match=r"videos/.*expected an answer of the server.*503.*tried 5 times"):
        dataset.frames(0, "front", [0])
    assert not [path for path in dataset.path.rglob("*") if path.name.startswith(".") and path.is_file()]
    assert dataset.frames(0, "front", [0]).shape == (1, 32, 48, 3)


def test_what_does_not_exist_and_what_is_no_url_are_refused(server: Server) -> None:
    with pytest.raises(InputError, match=r"meta/info\.json: expected a file of the dataset, got no such file"):
        LeRobotDataset.open(url_of(server, "absent"))
    with pytest.raises(InputError, match="a URL that fsspec can open"):
        LeRobotDataset.open("teleport://somewhere/toy")


def test_videos_on_disk_stay_within_the_limit(
    server: Server, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "KEPT", 2)
    sizes = [path.stat().st_size for path in (base / "toy/videos").rglob("*.mp4")]
    limit = 2 * max(sizes)
    assert sum(sizes) > 2 * limit
    monkeypatch.setenv("CROSSROADS_CACHE_GB", str(limit / 1e9))
    far, near = LeRobotDataset.open(url_of(server, "toy")), LeRobotDataset.open(base / "toy")
    for episode in [0, 5, 1, 0, 3, 4, 2, 5]:
        for camera in ("front", "wrist"):
            np.testing.assert_array_equal(far.frames(episode, camera, None), near.frames(episode, camera, None))
            kept = list((far.path / "videos").rglob("*.mp4"))
            assert sum(path.stat().st_size for path in kept) <= limit
            assert far.video_file(episode, camera)[0] in kept


def test_a_dataset_that_has_changed_is_fetched_anew(server: Server, base: Path) -> None:
    dataset = LeRobotDataset.open(url_of(server, "toy"))
    dataset.frames(0, "front", [0])
    info = base / "toy/meta/info.json"
    text = info.read_text()
    try:
        info.write_text(text.replace('"toy"', '"top"'))
        again = LeRobotDataset.open(url_of(server, "toy"))
        assert again.space.robot == "top"
        assert not list(again.path.rglob("*.mp4"))
    finally:
        info.write_text(text)


def test_a_remote_dataset_is_checked_like_a_local_one(server: Server, base: Path) -> None:
    assert check(url_of(server, "toy")).sound
    assert main(["data", "check", url_of(server, "toy")]) == 0
    video = sorted((base / "toy/videos").rglob("*.mp4"))[0]
    content = video.read_bytes()
    try:
        video.unlink()
        mirrored = Remote.at(url_of(server, "toy")).root
        (mirrored / video.relative_to(base / "toy")).unlink()
        report = check(url_of(server, "toy"))
        assert [finding.got for finding in report.findings] == ["no such file"]
    finally:
        video.write_bytes(content)


def test_in_a_bucket_it_is_the_same_dataset(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server", reason="NO MOTO: no S3 server. Install it with: pip install -e '.[dev]'")
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / "cache"))
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    serving = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    serving.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*serving.get_host_and_port()))
        bucket = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket.mkdir("robots")
        bucket.put(str(base / "toy"), "robots/toy", recursive=True)
        assert_same(LeRobotDataset.open("s3://robots/toy"), LeRobotDataset.open(base / "toy"))
        with pytest.raises(InputError, match=r"info\.json.*no such file"):
            LeRobotDataset.open("s3://robots/absent")
    finally:
        serving.stop()
        fsspec.filesystem("s3").clear_instance_cache()


def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    calls = []

    class Closed:
        def get_file(self, there: str, here: str) -> None:
            calls.append(there)
            raise PermissionError("Forbidden")

    closed = Remote(url="x://y", root=tmp_path, limit_bytes=None, files=Closed(), base="y", tries=5, wait_s=0)
    with pytest.raises(InputError, match=r"Forbidden.*tried 1 times"):
        closed.get("meta/info.json")
    assert calls == ["y/meta/info.json"]


def test_a_name_of_the_hub_is_its_url_unless_a_folder_is_meant(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub itself is not asked: its file system is stood in for by this disk's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert remote.url_of("lerobot/pusht") == "hf://datasets/lerobot/pusht"
    assert remote.url_of("runs/pusht") is None, "a folder that was mistyped"
    assert remote.url_of(Path("lerobot/pusht")) is None
    assert remote.url_of("./lerobot/pusht") is remote.url_of("pusht") is remote.url_of("a/b/c") is None
    asked: list[str] = []

    def here(url: str, **_: object) -> tuple[object, str]:
        asked.append(url)
        return fsspec.filesystem("file"), str(base / "toy")

    monkeypatch.setattr(fsspec.core, "url_to_fs", here)
    assert LeRobotDataset.open("lerobot/pusht").content_hash() == LeRobotDataset.open(base / "toy").content_hash()
    assert check("lerobot/pusht").sound
    assert set(asked) == {"hf://datasets/lerobot/pusht"}
