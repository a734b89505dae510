"""Tensors of a GGUF file, memory-mapped and dequantised, or kept as blocks, when they are asked for.

The `gguf` package knows how each type is stored and works through a tensor a few rows at a time, so
loading one takes little more than its float32 result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.gguf_blocks import BLOCK_TYPES, decode_blocks
from edgesdk_converters.checkpoints.gguf_header import TensorEntry
from edgesdk_converters.checkpoints.mapped_file import MappedFile
from edgesdk_converters.checkpoints.require_finite import require_finite
from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks

_PLAIN = {
    "F32": "<f4",
    "F16": "<f2",
    "F64": "<f8",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
}


class GgufTensors:
    """Implements `TensorStore` and `BlockStore` over a checked header.

    Numbers are checked when a tensor is first read: what is not finite is refused by its name.
    """

    def __init__(self, path: Path, entries: Mapping[str, TensorEntry]) -> None:
        """Maps the file; reads nothing."""
        self._path = path
        self._entries = dict(entries)
        self._finite: set[str] = set()
        self._file = MappedFile(path)

    @property
    def file_name(self) -> str:
        """For messages."""
        return self._path.name

    def __iter__(self) -> Iterator[str]:
        """Names, in file order."""
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order."""
        return self._entry(name).shape

    def stored_type(self, name: str) -> str:
        """The ggml type."""
        return self._entry(name).type_name

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array."""
        entry = self._entry(name)
        rows = entry.size_bytes // entry.row_bytes
        values = self._read(entry, 0, rows)
        self._finite.add(name)
        return values.reshape(entry.shape)

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array."""
        entry = self._entry(name)
        if not 0 <= start <= stop <= entry.shape[0]:
            raise CheckpointError(f"rows {start} to {stop} of {name!r} lie outside its {entry.shape[0]}")
        if len(entry.shape) == 1:
            return self.load(name)[start:stop].copy()
        per_row = entry.size_bytes // entry.row_bytes // entry.shape[0]
        rows = self._read(entry, start * per_row, stop * per_row)
        return rows.reshape(stop - start, *entry.shape[1:])

    def block_type(self, name: str) -> BlockType | None:
        """How a matrix lies in blocks, without reading it; None if it does not."""
        entry = self._entry(name)
        return BLOCK_TYPES.get(entry.type_name) if len(entry.shape) == 2 else None

    def stored_blocks(self, name: str) -> StoredBlocks:
        """The blocks of a matrix.

        Raises:
            CheckpointError: it has none, or scales that are not finite.
        """
        entry, kind = self._entry(name), self.block_type(name)
        if kind is None:
            raise CheckpointError(f"{self._path.name} does not store {name!r} in blocks of a known type")
        blocks = decode_blocks(self._raw(entry, 0, entry.shape[0]), kind)
        self._release(entry, 0, entry.shape[0])
        for numbers in (blocks.scales, blocks.minimums):
            if numbers is not None and not np.isfinite(numbers).all():
                raise CheckpointError(
                    f"{self._path.name} has a block of {name!r} whose scale is not a finite number; the file "
                    "is damaged, get it again"
                )
        return blocks

    def _entry(self, name: str) -> TensorEntry:
        if name not in self._entries:
            raise CheckpointError(f"{self._path.name} has no tensor {name!r}")
        return self._entries[name]

    def _read(self, entry: TensorEntry, start: int, stop: int) -> NDArray[np.float32]:
        """Rows of the last axis: (stop - start, columns)."""
        if start == stop:  # which the gguf package cannot reshape
            return np.empty((0, entry.shape[-1]), np.float32)
        raw = self._raw(entry, start, stop)
        values = self._decode(entry, raw)
        self._release(entry, start, stop)
        if entry.name not in self._finite:
            require_finite(values, self._path.name, entry.name)
        return values

    def _decode(self, entry: TensorEntry, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        if entry.type_name in _PLAIN:
            with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity, which is refused
                return raw.view(_PLAIN[entry.type_name]).astype(np.float32)
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        try:
            with np.errstate(all="ignore"):  # infinity times zero is NaN, which is refused
                values = dequantize(raw, GGMLQuantizationType[entry.type_name])
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self._path.name} stores {entry.name!r} as {entry.type_name}, which the installed gguf "
                "package cannot dequantise"
            ) from error
        return np.asarray(values, np.float32)

    def _raw(self, entry: TensorEntry, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows of the last axis as they lie in the file: (stop - start, bytes), a view of the map."""
        raw = self._file.view(entry.offset + start * entry.row_bytes, (stop - start) * entry.row_bytes)
        return raw.reshape(stop - start, entry.row_bytes)

    def _release(self, entry: TensorEntry, start: int, stop: int) -> None:
        self._file.release(entry.offset + start * entry.row_bytes, (stop - start) * entry.row_bytes)
