"""Messages are openpi's, byte for byte, and what contradicts itself is refused."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crossroads.errors import InputError
from crossroads.serve.codec import pack, unpack

VARIABLE = "CROSSROADS_OPENPI_CLIENT"
MESSAGE = {
    "observation/image": np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3),
    "observation/state": np.array((0.1, -2.0, np.float32(1e-8)), dtype=np.float32),
    "big": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 7)),
    "scalar": np.float32(1.5),
    "double": np.float64(1.5),
    "flag": np.bool_(True),
    "prompt": "press the réd button",
    "nested": {"infer_ms": 2.5, "list": [1, None, b"raw"]},
    "text array": np.array(["a", "bc"]),
}

numbers = st.sampled_from([np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, np.bool_])


@given(values=numbers.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0))))
def test_an_array_comes_back_with_every_bit_its_kind_and_its_shape(values: np.ndarray) -> None:
    back = unpack(pack({"x": values}))["x"]
    assert (back.dtype, back.shape, back.tobytes()) == (values.dtype, values.shape, values.tobytes())
    assert back.flags.writeable


def test_a_whole_message_comes_back() -> None:
    back = unpack(pack(MESSAGE))
    assert list(back) == list(MESSAGE)
    assert back["nested"] == MESSAGE["nested"]
    assert back["prompt"] == MESSAGE["prompt"]
    assert type(back["scalar"]) is np.float32
    assert back["double"] == 1.5  # a float64 is a float of Python, and is written as one
    assert type(back["flag"]) is np.bool_


def test_an_array_is_written_as_the_protocol_says() -> None:
    raw = msgpack.unpackb(pack({"a": np.array([[1, 2]], dtype=np.int16), "s": np.float32(0.5)}))
    assert raw["a"] == {b"__ndarray__": True, b"data": b"\x01\x00\x02\x00", b"dtype": "<i2", b"shape": [1, 2]}
    assert raw["s"] == {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}


@pytest.mark.parametrize("value", [np.array([None]), np.array([1j]), np.zeros(2, "V3"), np.complex64(1), object()])
def test_objects_complex_numbers_and_raw_memory_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="expected arrays, numbers"):
        pack({"x": value})


def _claimed(**changes: object) -> bytes:
    claimed = {b"__ndarray__": True, b"data": b"\x00" * 8, b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb({"x": {**claimed, **{key.encode(): value for key, value in changes.items()}}})  # pyright: ignore


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack(MESSAGE)[:-3],
        pack({}) + b"\x00",
        _claimed(shape=[3]),
        _claimed(shape=[2**40]),
        _claimed(shape=[-2]),
        _claimed(dtype="|O"),
        _claimed(dtype="nonsense"),
        _claimed(data="text"),
        _claimed(shape=None),
    ],
)
def test_bytes_that_are_no_message_or_contradict_themselves_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="one msgpack message"):
        unpack(data)


@pytest.fixture(scope="module")
def published() -> ModuleType:
    """openpi-client's own codec: importable, or in the folder that the environment variable names."""
    folder = os.environ.get(VARIABLE)
    found = importlib.util.find_spec("openpi_client") if folder is None else None
    root = Path(folder) / "openpi_client" if folder else Path(found.origin).parent if found and found.origin else None
    if root is None or not (root / "msgpack_numpy.py").is_file():
        pytest.skip(
            "openpi-client is not installed: "
            f"pip install --no-deps --target FOLDER openpi-client==0.1.2, then {VARIABLE}=FOLDER"
        )
    spec = importlib.util.spec_from_file_location("openpi_msgpack_numpy", root / "msgpack_numpy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.peer
def test_the_bytes_are_those_of_the_published_client_in_both_directions(published: ModuleType) -> None:
    theirs = published.packb(MESSAGE)
    assert pack(MESSAGE) == theirs
    assert pack(unpack(theirs)) == theirs
    back = published.unpackb(pack(MESSAGE))
    assert published.packb(back) == theirs
    assert back["observation/image"].tobytes() == MESSAGE["observation/image"].tobytes()  # pyright: ignore
