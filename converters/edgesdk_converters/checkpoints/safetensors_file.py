"""Tensors of safetensors files, memory-mapped. The header is checked before anything is believed.

Format: 8 bytes little-endian length, a JSON header of that length, then the data without holes
(safetensors, README, "Format"). It does not know which tensors a model needs, nor types that need a
scale of their own (float8).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.mapped_file import MappedFile
from edgesdk_converters.checkpoints.require_finite import require_finite

_HEADER_LIMIT = 100_000_000  # the format's own limit
_MAX_DIMENSIONS = 8
_COMPARED_BYTES = 16 << 20
_READ_AT_ONCE = 1 << 17  # numbers that a core's cache holds until they have been looked at
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U32": "<u4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


@dataclass(frozen=True)
class _Entry:
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class SafetensorsTensors:
    """Implements `TensorStore` over one or many safetensors files.

    Numbers are checked when a tensor is first read: what is not finite is refused by its name.
    """

    def __init__(self, paths: list[Path]) -> None:
        """Reads the headers.

        Raises:
            CheckpointError: a file is damaged, or two files hold different tensors under one name.
        """
        self._entries: dict[str, _Entry] = {}
        self._maps: dict[Path, MappedFile] = {}
        self._finite: dict[str, int] = {}  # of each tensor the bytes from its start that were looked at
        self._files: dict[str, tuple[str, ...]] = {}
        for path in paths:
            for name, entry in _read_header(path).items():
                other = self._entries.setdefault(name, entry)
                if other is not entry and not self._same(other, entry):
                    raise CheckpointError(
                        f"{name[:200]!r} is in {other.path.name} and in {path.name} with other numbers; "
                        "remove the one that does not belong there"
                    )
                self._files[name] = (*self._files.get(name, ()), path.name)

    def __iter__(self) -> Iterator[str]:
        """Names, in file order."""
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order."""
        return self._entry(name).shape

    def shape_of(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor that may not be there; None if it is not."""
        return self._entries[name].shape if name in self._entries else None

    def load_integers(self, name: str) -> NDArray[np.int32]:
        """A tensor of 32-bit words, bit for bit.

        Raises:
            CheckpointError: it is of another type.
        """
        entry = self._entry(name)
        if entry.dtype not in ("I32", "U32"):
            raise CheckpointError(f"{name[:200]!r} is of type {entry.dtype}, expected I32 or U32")
        values = self._bytes(entry).view("<i4").astype(np.int32).reshape(entry.shape)
        self._maps[entry.path].release(entry.offset, entry.size)
        return values

    def stored_type(self, name: str) -> str:
        """The safetensors type."""
        return self._entry(name).dtype

    def files_of(self, name: str) -> tuple[str, ...]:
        """Names of the files that hold a tensor, the same in each; none if there is no such tensor."""
        return self._files.get(name, ())

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array."""
        entry = self._entry(name)
        return self._read(name, entry, 0, entry.size).reshape(entry.shape)

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array."""
        entry = self._entry(name)
        if not entry.shape or not 0 <= start <= stop <= entry.shape[0]:
            raise CheckpointError(f"rows {start} to {stop} of {name!r} lie outside its shape {entry.shape}")
        row = entry.size // max(entry.shape[0], 1)
        return self._read(name, entry, start * row, stop * row).reshape(stop - start, *entry.shape[1:])

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise CheckpointError(f"the checkpoint has no tensor {name!r}")
        return self._entries[name]

    def _read(self, name: str, entry: _Entry, start: int, stop: int) -> NDArray[np.float32]:
        values = self._bytes(entry)[start:stop].view(_TYPES[entry.dtype])
        numbers = np.empty(values.shape, np.float32)
        bits, finite, known = numbers.view(np.uint32), True, self._finite.get(name, 0)
        for at in range(0, len(values), _READ_AT_ONCE):
            part = slice(at, at + _READ_AT_ONCE)
            if entry.dtype == "BF16":  # the upper half of a float32
                np.left_shift(values[part], np.uint32(16), out=bits[part], dtype=np.uint32)
            else:
                with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity, which is refused
                    numbers[part] = values[part]
            finite = finite and (stop <= known or bool(np.isfinite(numbers[part]).all()))
        self._maps[entry.path].release(entry.offset + start, stop - start)
        if not finite:
            require_finite(numbers, entry.path.name, name)
        if start <= known < stop:
            self._finite[name] = stop
        return numbers

    def _bytes(self, entry: _Entry) -> NDArray[np.uint8]:
        if entry.path not in self._maps:
            self._maps[entry.path] = MappedFile(entry.path)
        return self._maps[entry.path].view(entry.offset, entry.size)

    def _same(self, a: _Entry, b: _Entry) -> bool:
        """Whether two entries hold the same tensor, byte for byte."""
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        one, other = self._bytes(a), self._bytes(b)
        cuts = range(0, a.size, _COMPARED_BYTES)
        return all(np.array_equal(one[c : c + _COMPARED_BYTES], other[c : c + _COMPARED_BYTES]) for c in cuts)


def _read_header(path: Path) -> dict[str, _Entry]:
    name = str(path)  # with its folder: drafts, streams and checkpoints call theirs alike
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if len(start) < 8:
                raise CheckpointError(f"{name} has {size} bytes; expected a safetensors file")
            (length,) = struct.unpack("<Q", start)
            if length > min(size - 8, _HEADER_LIMIT):
                raise CheckpointError(
                    f"{name} announces a header of {length} bytes in a file of {size}; it is truncated or no "
                    "safetensors file"
                )
            document = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} has no valid JSON header; download it again") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{name} has a header that is no object; download it again")
    document.pop("__metadata__", None)
    entries = {key: _check_entry(path, key, value, 8 + length, size) for key, value in document.items()}
    _check_holes(name, entries, 8 + length, size)
    return entries


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, whose keys JSON itself allows twice.

    Raises:
        ValueError: a key is there twice, which the caller reports as a broken header.
    """
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is there twice")
    return document


def _check_entry(path: Path, key: str, value: object, start: int, size: int) -> _Entry:
    where = f"{path} describes {key[:80]!r}"
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} by a {type(value).__name__}; expected an object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise CheckpointError(f"{where} as type {str(dtype)[:20]!r}; expected one of {', '.join(_TYPES)}")
    if not _naturals(shape, _MAX_DIMENSIONS) or not _naturals(offsets, 2) or len(offsets) != 2:
        raise CheckpointError(f"{where} without a valid shape and data_offsets")
    begin, end = offsets
    expected = math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize
    if end - begin != expected:
        raise CheckpointError(f"{where} with {end - begin} bytes; {dtype} of shape {shape} has {expected}")
    if start + end > size:
        raise CheckpointError(
            f"{where} up to byte {start + end} of {size}: it is truncated, download it again"
        )
    return _Entry(path, dtype, tuple(shape), start + begin, expected)


def _naturals(value: object, most: int) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(v) is int and 0 <= v < 1 << 48 for v in value)
    )


def _check_holes(name: str, entries: Mapping[str, _Entry], start: int, size: int) -> None:
    """Tensors must lie one behind the other and fill the file."""
    end, before = start, "the header"
    for key, entry in sorted(entries.items(), key=lambda pair: (pair[1].offset, pair[1].size)):
        if entry.offset != end:
            what = "overlap" if entry.offset < end else "have a hole between them"
            raise CheckpointError(f"in {name}, {before} and {key[:80]!r} {what}; it is damaged")
        end, before = entry.offset + entry.size, repr(key[:80])
    if end != size:
        raise CheckpointError(
            f"{name} has {size} bytes, but its tensors end at {end}; it is damaged, download it again"
        )
