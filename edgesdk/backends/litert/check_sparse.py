"""Verifies how a sparse constant of a LiteRT file lies, which LiteRT follows without looking.

One form is taken, that of `emit/litert/diagonal.py`: blocks of rows, for each of them the blocks of columns
that the buffer has, and the elements of a block row by row (schema.fbs, SparsityParameters).
"""

from __future__ import annotations

import numpy as np

from edgesdk.backends.litert.flatbuffer import Flatbuffer, FlatbufferError, Table

_DENSE, _SPARSE, _INT32 = 0, 1, 1
_MOST_BLOCKS = 1 << 20


def stored_elements(flat: Flatbuffer, sparsity: Table, shape: tuple[int, ...]) -> int:
    """How many elements the buffer of a sparse constant has.

    Args:
        flat: the file.
        sparsity: of the constant.
        shape: of the constant, (O, N).

    Raises:
        FlatbufferError: its blocks lie outside the matrix, out of order, or in another form.
    """
    orders = flat.integers(sparsity, 0, 4), flat.integers(sparsity, 1, 2)
    dimensions = flat.tables(sparsity, 2, 4)
    known = set(flat.present(sparsity)) <= {0, 1, 2} and orders == ((0, 1, 2, 3), (0, 1))
    if not known or len(dimensions) != 4 or len(shape) != 2:
        raise FlatbufferError("a sparse constant lies in another form than edgesdk writes")
    count, rows, columns = (_dense(flat, dimensions[place]) for place in (0, 2, 3))
    ends, indices = _compressed(flat, dimensions[1])
    if count * rows != shape[0] or shape[1] % columns:
        raise FlatbufferError(f"blocks of {rows} x {columns} do not make a sparse constant of shape {shape}")
    if len(ends) != count + 1 or ends[0] != 0 or ends[-1] != len(indices):
        raise FlatbufferError("a sparse constant has other blocks than it says")
    bounds, blocks = np.asarray(ends, np.int64), np.asarray(indices, np.int64)
    if (np.diff(bounds) < 0).any():  # from 0 to their number, so none lies outside
        raise FlatbufferError("a sparse constant has other blocks than it says")
    band = np.repeat(np.arange(count), np.diff(bounds))
    outside = (blocks < 0) | (blocks >= shape[1] // columns)
    if outside.any() or ((np.diff(band) == 0) & (np.diff(blocks) <= 0)).any():
        raise FlatbufferError("a block of a sparse constant lies outside of it, or out of order")
    return len(indices) * rows * columns


def _dense(flat: Flatbuffer, table: Table) -> int:
    size = flat.scalar(table, 1, "i")
    if not set(flat.present(table)) <= {0, 1} or flat.scalar(table, 0, "b") != _DENSE or size < 1:
        raise FlatbufferError("a sparse constant lies in another form than edgesdk writes")
    return size


def _compressed(flat: Flatbuffer, table: Table) -> tuple[tuple[int, ...], tuple[int, ...]]:
    vectors = flat.child(table, 3), flat.child(table, 5)
    kinds = [flat.scalar(table, field, code) for field, code in ((0, "b"), (2, "B"), (4, "B"))]
    if kinds != [_SPARSE, _INT32, _INT32] or not set(flat.present(table)) <= {0, 1, 2, 3, 4, 5}:
        raise FlatbufferError("a sparse constant lies in another form than edgesdk writes")
    segments, indices = (() if each is None else flat.integers(each, 0, _MOST_BLOCKS) for each in vectors)
    return segments, indices
