"""Reads an adapter in ONNX Runtime's format, every offset and size checked before it is followed.

The format is a flatbuffer of named tensors, written by onnxruntime's `AdapterFormat`. It is checked here
before ONNX Runtime reads it, because a file may be a stranger's. Numbers stay where the file is mapped,
and are not copied. Which products they belong to is not known here.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import cast

import numpy as np

from edgesdk.backends.litert.flatbuffer import Flatbuffer, FlatbufferError, Table
from edgesdk.backends.protocol import Float
from edgesdk.backends.say_damage import say_damage

_IDENTIFIER = b"TORT"
_FORMAT, _FLOAT = 1, 1
_MOST_TENSORS = 1 << 16
_MOST_SIZE = 1 << 32
"""Of one dimension."""


def read_onnx_adapter(path: Path) -> dict[str, Float]:
    """Reads a file.

    Args:
        path: the adapter.

    Returns:
        By name, matrices in float32 that lie in the mapped file.

    Raises:
        BundleError: it is damaged, or holds something else than matrices in float32.
    """
    with say_damage(path, FlatbufferError):
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _tensors(Flatbuffer(memoryview(mapped)), len(mapped))


def _tensors(file: Flatbuffer, most_bytes: int) -> dict[str, Float]:
    root = file.root(_IDENTIFIER)
    if file.scalar(root, 0, "i") != _FORMAT:
        raise FlatbufferError(f"it is of version {file.scalar(root, 0, 'i')}, expected {_FORMAT}")
    found: dict[str, Float] = {}
    for table in file.tables(root, 3, _MOST_TENSORS):
        name = file.text(table, 0)
        if not name or name in found:
            raise FlatbufferError(f"the tensor {name[:60]!r} is there twice, or has no name")
        found[name] = _matrix(file, table, name)
        most_bytes -= found[name].nbytes
        if most_bytes < 0:  # many may lie in one place, and sums of adapters are made of copies
            raise FlatbufferError("its tensors are larger than the file")
    return found


def _matrix(file: Flatbuffer, table: Table, name: str) -> Float:
    start, count = file.vector(table, 1, 8)
    shape = [int(size) for size in file.array(start, count, "i8")] if count == 2 else []
    if file.scalar(table, 2, "i") != _FLOAT or len(shape) != 2 or not all(0 <= n < _MOST_SIZE for n in shape):
        raise FlatbufferError(f"{name[:60]!r} is no matrix in float32")
    start, size = file.vector(table, 3, 1)
    if size != 4 * math.prod(shape):
        raise FlatbufferError(f"{name[:60]!r} has {size} bytes, its shape {tuple(shape)} needs others")
    return cast(Float, file.array(start, size // 4, "f4").reshape(shape)) if size else np.empty(shape, "f4")
