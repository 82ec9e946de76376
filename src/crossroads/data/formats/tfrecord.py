"""TFRecord files and the `tf.train.Example` in each record, without TensorFlow.

A record is its length (8 bytes, little endian), the masked CRC-32C of these bytes (4), the data, and the masked CRC-32C
of the data (4). Source: TensorFlow, `tensorflow/core/lib/io/record_writer.h` and `core/example/example.proto`
(Apache-2.0), read, not copied.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from crossroads.errors import InputError

_DO = "The file is cut off or damaged; copy it again."
_HEAD, _TAIL = 12, 4


@dataclass(frozen=True, kw_only=True)
class Record:
    """Where the data of one record lies in its file."""

    path: Path
    offset: int
    size: int


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and shifted so that a checksum of data that holds checksums stays strong."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> tuple[Record, ...]:
    """The places of all records; only their heads are read. Raises `InputError` where the chain of records breaks."""
    found, offset, size = [], 0, path.stat().st_size
    with path.open("rb") as stream:
        while offset < size:
            length = _length(stream, path, offset)
            found.append(Record(path=path, offset=offset + _HEAD, size=length))
            offset += _HEAD + length + _TAIL
            if offset > size:
                raise InputError(
                    where=f"{path}: record {len(found) - 1}",
                    expected=f"{length} bytes of data",
                    got=f"the end of the file after {size - found[-1].offset}",
                    do=_DO,
                )
    return tuple(found)


def read(record: Record) -> bytes:
    """The data of a record, checked against its checksum."""
    with record.path.open("rb") as stream:
        stream.seek(record.offset)
        data, tail = stream.read(record.size), stream.read(_TAIL)
    if len(tail) != _TAIL or struct.unpack("<I", tail)[0] != masked_crc(data):
        raise InputError(
            where=f"{record.path}: record at byte {record.offset - _HEAD}",
            expected="data that fits its checksum",
            got="other data",
            do=_DO,
        )
    return data


def _length(stream: BinaryIO, path: Path, offset: int) -> int:
    stream.seek(offset)
    head = stream.read(_HEAD)
    if len(head) != _HEAD or struct.unpack("<I", head[8:])[0] != masked_crc(head[:8]):
        raise InputError(
            where=f"{path}: byte {offset}",
            expected="the head of a TFRecord",
            got=f"{head[:_HEAD].hex()}",
            do=_DO,
        )
    return struct.unpack("<Q", head[:8])[0]


@functools.cache
def example_class() -> Any:
    """The class of `tf.train.Example`, from its description instead of generated code."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="crossroads/example.proto", package="crossroads", syntax="proto3")

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=many)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (title, kind) in enumerate((("bytes", "Bytes"), ("float", "Float"), ("int64", "Int64")), start=1):
        feature.field.add(
            name=f"{title}_list",
            number=number,
            type=field.TYPE_MESSAGE,
            label=one,
            type_name=f".crossroads.{kind}List",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    table = ".crossroads.Features.FeatureEntry"
    features.field.add(name="feature", number=1, type=field.TYPE_MESSAGE, label=many, type_name=table)
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=field.TYPE_MESSAGE, label=one, type_name=".crossroads.Feature")
    top = file.message_type.add(name="Example")
    top.field.add(name="features", number=1, type=field.TYPE_MESSAGE, label=one, type_name=".crossroads.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("crossroads.Example"))


@functools.lru_cache(maxsize=1)
def example(record: Record) -> Mapping[str, np.ndarray | tuple[bytes, ...]]:
    """The features of one record: numbers as arrays (float32, int64), byte strings as a tuple."""
    try:
        parsed = example_class().FromString(read(record))
    except message.DecodeError as error:
        raise InputError(
            where=f"{record.path}: record at byte {record.offset - _HEAD}",
            expected="a tf.train.Example",
            got=str(error),
            do="Only datasets of tf.train.Example records are read.",
        ) from error
    found: dict[str, np.ndarray | tuple[bytes, ...]] = {}
    for name, feature in parsed.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            found[name] = tuple(feature.bytes_list.value)
        elif kind == "float_list":
            found[name] = np.asarray(feature.float_list.value, np.float32)
        elif kind == "int64_list":
            found[name] = np.asarray(feature.int64_list.value, np.int64)
    return found
