"""Reads `weight.bin` of a Core ML package (coremltools, mlmodel/src/MILBlob, StorageFormat.hpp).

The file begins with a header of 64 bytes (number of blobs, version 2). A blob is addressed by the
offset of its own header of 64 bytes: a mark, the element type, bytes of data and where they begin.
The file is untrusted: every number is checked against its size before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import BundleError

_HEADER = struct.Struct("<II56x")
_BLOB = struct.Struct("<IIQQQ32x")
_VERSION = 2
_MARK = 0xDEADBEEF

# Element types by their number in the file. Four bits stand two to a byte, the first in the low half.
_TYPES = {1: "float16", 2: "float32", 3: "uint8", 4: "int8", 8: "int4", 11: "uint4", 14: "int32"}


class WeightFile:
    """A memory-mapped weight file."""

    def __init__(self, path: Path) -> None:
        """Maps `path`.

        Raises:
            BundleError: it is missing or not a weight file.
        """
        self._name = path.name
        try:
            self._bytes: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            reason = getattr(error, "strerror", None) or error
            raise BundleError(f"{path.name} cannot be read ({reason}); copy or convert it again") from error
        if self._bytes.size < _HEADER.size:
            raise self._damaged(f"it has {self._bytes.size} bytes, not even a header")
        _, version = _HEADER.unpack(self._bytes[: _HEADER.size].tobytes())
        if version != _VERSION:
            raise self._damaged(f"its version is {version}, expected {_VERSION}")

    def read(self, offset: int, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """One blob; int4 and uint4 come as int8 and uint8, everything else as a view of the file.

        Args:
            offset: of the blob's header.
            dtype: expected element type, e.g. `float16`.
            shape: expected shape.

        Raises:
            BundleError: there is no such blob at that place.
        """
        size = self._bytes.size
        if not _HEADER.size <= offset <= size - _BLOB.size:
            raise self._damaged(f"a blob at {offset} lies outside its {size} bytes")
        mark, kind, count, start, _ = _BLOB.unpack(self._bytes[offset : offset + _BLOB.size].tobytes())
        if mark != _MARK:
            raise self._damaged(f"there is no blob at {offset}")
        if _TYPES.get(kind) != dtype:
            raise self._damaged(f"the blob at {offset} has element type {kind}, expected {dtype}")
        elements = int(np.prod(shape, dtype=np.int64))
        expected = (elements + 1) // 2 if dtype in _NIBBLES else elements * np.dtype(dtype).itemsize
        if count != expected:
            raise self._damaged(f"the blob at {offset} has {count} bytes, its shape {shape} needs {expected}")
        if start > size or count > size - start:
            raise self._damaged(f"the blob at {offset} ends beyond its {size} bytes")
        data = self._bytes[start : start + count]
        if dtype in _NIBBLES:
            return _NIBBLES[dtype](data)[:elements].reshape(shape)
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)

    def _damaged(self, what: str) -> BundleError:
        return BundleError(f"{self._name} is damaged: {what}; copy or convert the bundle again")


def _unpack_int4(data: NDArray[np.uint8]) -> NDArray[np.int8]:
    pairs = np.empty((data.size, 2), np.int8)
    signed = data.view(np.int8)
    pairs[:, 0] = (signed << 4) >> 4  # shifting back right repeats the sign
    pairs[:, 1] = signed >> 4
    return pairs.reshape(-1)


def _unpack_uint4(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([data & 15, data >> 4], axis=1).reshape(-1)


_NIBBLES: Mapping[str, Callable[[NDArray[np.uint8]], NDArray[np.generic]]] = {
    "int4": _unpack_int4,
    "uint4": _unpack_uint4,
}
