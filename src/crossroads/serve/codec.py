"""Messages of the openpi WebSocket protocol: msgpack maps whose arrays are maps with byte-string keys.

An array is ``{__ndarray__: True, data: raw bytes, dtype: numpy's text, shape}`` and a numpy scalar
``{__npgeneric__: True, data: value, dtype}``, all keys as bytes; nothing is ever pickled. Source: openpi-client 0.1.2,
``msgpack_numpy.py`` (Physical-Intelligence/openpi, Apache-2.0), with which these bytes are compared in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from crossroads.errors import InputError

REFUSED_KINDS = "VOc"
"""Raw memory, Python objects and complex numbers: the kinds of array that the protocol does not know."""


def pack(message: Mapping[str, Any]) -> bytes:
    """One message as bytes; values are numpy arrays, numbers, text, bytes, None, lists and maps of these.

    Raises:
        InputError: a value is of another type, or an array of a kind that the protocol refuses.
    """
    try:
        packed = msgpack.packb(message, default=_plain)
    except TypeError as error:
        raise InputError(
            where="message", expected="arrays, numbers, text, lists and maps", got=str(error), do="Convert it first."
        ) from error
    assert packed is not None  # msgpack's annotation allows for packers that keep their buffer
    return packed


def unpack(data: bytes) -> Any:
    """The message in these bytes; arrays are copies that may be written to.

    Raises:
        InputError: the bytes are no msgpack message, or an array in them contradicts itself.
    """
    try:
        return msgpack.unpackb(data, object_hook=_array)
    except InputError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InputError(
            where="message",
            expected="one msgpack message with arrays as openpi writes them",
            got=f"{len(data)} bytes that cannot be read ({error or type(error).__name__})",
            do="Serve with openpi's WebSocket protocol; see openpi's scripts/serve_policy.py.",
        ) from error


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"a {type(value).__name__}")
    if value.dtype.kind in REFUSED_KINDS:
        raise TypeError(f"an array of {value.dtype}")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _array(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        dtype, shape, data = _dtype(value), tuple(value.get(b"shape", ())), value.get(b"data", b"")
        if not isinstance(data, bytes) or len(data) != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"an array of shape {shape} and {dtype} with another number of bytes")
        return np.frombuffer(data, dtype=dtype).reshape(shape).copy()
    if b"__npgeneric__" in value:
        return _dtype(value).type(value[b"data"])
    return value


def _dtype(value: dict[Any, Any]) -> np.dtype:
    dtype = np.dtype(value.get(b"dtype"))
    if b"dtype" not in value or dtype.kind in REFUSED_KINDS:
        raise ValueError(f"an array of {value.get(b'dtype')!r}")
    return dtype
