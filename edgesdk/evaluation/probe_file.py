"""The file of a parity probe: an uncompressed .npz (numpy.lib.format, version 1) of plain arrays.

It comes with a bundle and is not trusted: sizes and types are checked before anything is allocated.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

LIMIT_BYTES = 64 << 20
"""Far above any real probe (a few hundred kilobytes)."""

UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)
"""What reading one may raise."""

T = TypeVar("T", np.int32, np.float32)


def read_members(path: Path, *accepted: Sequence[str]) -> dict[str, bytes]:
    """Bytes of each array, by its name.

    Args:
        path: the file.
        *accepted: names of the arrays that it may hold, all of one set.

    Raises:
        ValueError: it holds others, or they are compressed or cut; or one of `UNREADABLE`.
    """
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise ValueError(f"it has {size} bytes, expected at most {LIMIT_BYTES}")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        found = sorted(info.filename for info in members)
        if found not in [sorted(f"{name}.npy" for name in names) for names in accepted]:
            raise ValueError("it does not hold the arrays of a probe")
        # Stored as they are, members cannot grow beyond the file that was just measured.
        if any(info.compress_type != zipfile.ZIP_STORED or info.file_size > size for info in members):
            raise ValueError("an array is compressed or cut")
        return {info.filename.removesuffix(".npy"): archive.read(info) for info in members}


def read_array(data: bytes, kind: type[T], dimensions: int) -> NDArray[T]:
    """An array of one type.

    Args:
        data: of a member.
        kind: of its numbers, little-endian in the file.
        dimensions: how many it has.

    Raises:
        ValueError: it is another, or cut.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array is of another .npy version")
    shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
    expected = np.dtype(kind).newbyteorder("<")
    if found != expected or len(shape) != dimensions or fortran:
        raise ValueError(f"an array is {found} {shape}, expected {dimensions}-dimensional {expected}")
    body = data[stream.tell() :]
    if min(shape) < 0 or math.prod(shape) * expected.itemsize != len(body):
        raise ValueError(f"an array has {len(body)} bytes for the shape {shape}")
    return np.frombuffer(body, expected).astype(kind).reshape(shape)


def outside(ids: NDArray[np.int32], vocab_size: int) -> bool:
    """Whether some token ids are none of a vocabulary's."""
    return bool(((ids < 0) | (ids >= vocab_size)).any())
