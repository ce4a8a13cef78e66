"""What an exported tower says of itself, read from its file without ONNX Runtime, onnx or torch.

An ONNX file is one protobuf message. Only the fields needed are looked at; weights are skipped, so
a tower of gigabytes takes milliseconds. Field numbers: onnx.proto of the ONNX project.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from saywhere.errors import TowerError
from saywhere.towers.runtime import METADATA_KEY

_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_INITIALIZER = 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_LOCATION = 1, 2, 14
_EXTERNAL = 1
_REAL_TYPES = {1, 10, 11, 16}  # float32, float16, float64, bfloat16


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A tower's file, unopened.

    Attributes:
        parameters: real numbers in its weights, as exported: batch normalisation may be folded in.
        metadata: what the export wrote beside them, tokenizer included.
    """

    parameters: int
    metadata: dict[str, Any]


class _Field(NamedTuple):
    """One field of a message: a number, or bytes from ``start`` to ``stop``."""

    number: int
    value: int
    start: int
    stop: int


def read_onnx(path: Path) -> OnnxFile:
    """Count the parameters of the exported tower at ``path`` and read its metadata.

    Raises:
        TowerError: unreadable, no ONNX file, or one whose weights are in other files.
    """
    try:
        with (
            path.open("rb") as handle,
            mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _read_model(path, data)
    except OSError as error:
        raise TowerError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    except (ValueError, IndexError):  # ValueError: an empty file, too
        raise TowerError(f"{path}: is no whole ONNX file; delete it to export it anew") from None


def _read_model(path: Path, data: mmap.mmap) -> OnnxFile:
    parameters, metadata = 0, dict[str, Any]()
    for part in _fields(data, 0, len(data)):
        if part.number == _MODEL_GRAPH:
            for inner in _fields(data, part.start, part.stop):
                if inner.number == _GRAPH_INITIALIZER:
                    parameters += _count(path, data, inner)
        elif part.number == _MODEL_METADATA:
            key, value = (
                data[text.start : text.stop].decode("utf-8")
                for text in sorted(_fields(data, part.start, part.stop))
            )
            if key == METADATA_KEY:
                metadata = json.loads(value)
    if not isinstance(metadata, dict):
        raise ValueError(metadata)
    return OnnxFile(parameters, metadata)


def _count(path: Path, data: mmap.mmap, tensor: _Field) -> int:
    """Numbers in a tensor of reals; 0 for other types and for single constants of the graph."""
    dims, kind = list[int](), 0
    for part in _fields(data, tensor.start, tensor.stop):
        if part.number == _TENSOR_DIMS:
            dims += _integers(data, part)
        elif part.number == _TENSOR_TYPE:
            kind = part.value
        elif part.number == _TENSOR_LOCATION and part.value == _EXTERNAL:
            raise TowerError(
                f"{path}: keeps weights in another file, which would not travel with it; export "
                "the tower with saywhere, in one file"
            )
    return math.prod(dims) if dims and kind in _REAL_TYPES else 0


def _integers(data: mmap.mmap, part: _Field) -> list[int]:
    """A repeated integer: one value a field, or many packed into one."""
    if part.start == part.stop:
        return [part.value]
    values, at = list[int](), part.start
    while at < part.stop:
        value, at = _varint(data, at)
        values.append(value)
    return values


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[_Field]:
    """The fields of the message from ``at`` to ``stop``, in order."""
    while at < stop:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield _Field(number, value, at, at)
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > stop:
                raise ValueError("a field ends beyond its message")
            yield _Field(number, 0, at, at + size)
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A base-128 number at ``at``, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
