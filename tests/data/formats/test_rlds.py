"""RLDS episodes are read without TensorFlow as they were written; a flipped bit is found by its checksum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign_formats import write_rlds
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import episodes

from crossroads.data.formats import tfrecord
from crossroads.data.formats.rlds import RldsSource, open_rlds
from crossroads.data.formats.source import Wanted
from crossroads.errors import InputError

GIVEN = episodes(4)
SAID = Wanted(fps=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rlds(tmp_path / "toy/1.0.0", GIVEN)


def test_every_number_picture_and_word_comes_back(folder: Path) -> None:
    source = open_rlds(folder, SAID)
    facts = source.facts
    assert facts.num_episodes == 4
    assert facts.cameras == {"image": (32, 48), "wrist_image": (32, 48)}
    assert (facts.state_names, facts.action_names) == (("state_0", "state_1", "state_2"), ("action_0", "action_1"))
    assert facts.left_behind == ("reward",)
    for index, one in enumerate(GIVEN):
        numbers = source.numbers(index)
        assert numbers.text == one.text
        np.testing.assert_array_equal(numbers.state, one.state)
        np.testing.assert_array_equal(numbers.actions, one.actions)
        for name, camera in (("image", "front"), ("wrist_image", "wrist")):
            np.testing.assert_array_equal(np.concatenate(list(source.frames(index, name))), one.images[camera])


def test_the_folder_above_the_version_will_do_and_sizes_may_be_left_open(folder: Path) -> None:
    features = json.loads((folder / "features.json").read_text())
    step = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    image = step["observation"]["featuresDict"]["features"]["image"]["image"]
    image["shape"]["dimensions"] = ["-1", "-1", "3"]
    (folder / "features.json").write_text(json.dumps(features))
    assert open_rlds(folder.parent, SAID).facts.cameras["image"] == (32, 48)


@settings(max_examples=20, deadline=None)
@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(place: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_rlds(tmp_path_factory.mktemp("bits") / "toy", episodes(1, image_hw=(8, 8)), num_shards=1)
    shard = next(folder.glob("*.tfrecord-*"))
    data = bytearray(shard.read_bytes())
    data[place % len(data)] ^= 1 << bit
    shard.write_bytes(data)
    with pytest.raises(InputError):
        open_rlds(folder, SAID).numbers(0)


def test_the_checksum_is_that_of_crc_32c() -> None:
    # RFC 3720, B.4: the CRC-32C of 32 zero bytes; the mask is that of TensorFlow's `core/lib/hash/crc32c.h`.
    crc = 0x8A9136AA
    assert tfrecord.masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


@pytest.mark.peer
def test_what_the_tfrecord_packages_writer_wrote_is_read(tmp_path: Path) -> None:
    missing = "NO TFRECORD: its writer was not compared with our reader. Install it with: pip install tfrecord"
    peer = pytest.importorskip("tfrecord", reason=missing)
    numbers = np.random.default_rng(0).normal(size=14).astype(np.float32)
    writer = peer.TFRecordWriter(str(tmp_path / "x.tfrecord"))
    for times in range(3):
        writer.write({"a": (numbers * times, "float"), "b": ([1, 2, -3], "int"), "c": (b"words", "byte")})
    writer.close()
    found = tfrecord.records(tmp_path / "x.tfrecord")
    for times, record in enumerate(found):
        columns = tfrecord.example(record)
        np.testing.assert_array_equal(columns["a"], numbers * np.float32(times))
        assert (np.asarray(columns["b"]).tolist(), columns["c"]) == ([1, 2, -3], (b"words",))
    assert len(found) == 3


def edit(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    plain = json.loads((folder / name).read_text())
    change(plain)
    (folder / name).write_text(json.dumps(plain))


def cut(folder: Path) -> None:
    shard = sorted(folder.glob("*.tfrecord-*"))[1]
    shard.write_bytes(shard.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "the end of the file after"),
        (lambda folder: sorted(folder.glob("*.tfrecord-*"))[0].unlink(), "missing are [0]"),
        (
            lambda folder: edit(folder, "dataset_info.json", lambda it: it["splits"][0].update(shardLengths=["9"])),
            "got 9",
        ),
        (lambda folder: edit(folder, "features.json", lambda it: it["featuresDict"]["features"].clear()), "'steps'"),
        (lambda folder: (folder / "features.json").write_text("{"), "a JSON object"),
        (lambda folder: (folder / "features.json").unlink(), "one features.json"),
    ],
)
def test_damage_is_named_with_its_place(damage: Callable[[Path], object], told: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(InputError, match="expected") as caught:
        open_rlds(folder, SAID)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(), "Give --fps"),
        (Wanted(fps=10, state=("observation/stat",)), "Did you mean 'observation/state'?"),
        (Wanted(fps=10, action=("observation/image",)), "action (2)"),
        (Wanted(fps=10, cameras=("top",)), "some of image, wrist_image"),
    ],
)
def test_what_is_asked_for_and_not_there_is_named(wanted: Wanted, told: str, folder: Path) -> None:
    with pytest.raises(InputError, match="expected") as caught:
        open_rlds(folder, wanted)
    assert told in str(caught.value)


def test_columns_that_the_records_lack_are_named(folder: Path) -> None:
    def rename(plain: dict) -> None:
        step = plain["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        step["torque"] = step["action"]

    edit(folder, "features.json", rename)
    source: RldsSource = open_rlds(folder, Wanted(fps=10, action=("torque",)))
    with pytest.raises(InputError, match="a column steps/torque"):
        source.numbers(0)
