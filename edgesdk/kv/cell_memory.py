"""The memory behind a pool of cells, in the two ways in which cells are kept.

float32: one array, copied as it is. int8: an array of integers and one of scales, a quarter of the
memory and a little more. Every key and every value of a head has a scale of its own, because a cell is
written once and alone: a scale shared with other cells would have to be known before they are. It knows
nothing of who holds a cell.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgesdk.backends.aligned_array import aligned_bytes, aligned_floats
from edgesdk.backends.protocol import Cells, Float, Int, Int8Cells
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType

Places = Int | slice | int
"""Which cells: their indices, a range of them, or one, whose axis is then missing."""

LARGEST = np.float32(127)
"""Integers are symmetric, so -128 is not used."""

_SMALLEST = np.float32(1e-30)
"""Below it a vector counts as zero: its scale's inverse must be a float32."""


class CellMemory(Protocol):
    """Arrays for a number of cells that changes."""

    cell_bytes: int
    """Bytes of one cell, its scales included."""

    @property
    def cells(self) -> Cells:
        """What a backend reads; replaced by `lay_out`."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays as they are laid out now."""

    def lay_out(self, size: int, kept: int) -> None:
        """Takes zeroed arrays for `size` cells, with the first `kept` as they were."""

    def write(self, places: Places, source: Cells) -> None:
        """Fills cells.

        Args:
            places: which.
            source: (L, 2, K, n, D) float32, or cells as `read` gives them; without n for one place.

        Raises:
            ValueError: they are int8, and these are not.
        """

    def read(self, places: Int) -> Cells:
        """What cells hold, as it is held: a copy."""

    def move(self, targets: Int, sources: Int) -> None:
        """Copies cells onto others."""


class FloatMemory:
    """Cells in float32; implements `CellMemory`."""

    def __init__(self, spec: DecoderSpec) -> None:
        """Without cells."""
        self._spec = spec
        self.cell_bytes = spec.cell_bytes
        self._array = self._empty(0)

    @property
    def cells(self) -> Float:
        """(L, 2, K, S, D) float32, C-contiguous, aligned."""
        return self._array

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self._array.nbytes

    def lay_out(self, size: int, kept: int) -> None:
        """See `CellMemory`."""
        fresh = self._empty(size)
        fresh[:, :, :, :kept] = self._array[:, :, :, :kept]
        self._array = fresh

    def write(self, places: Places, source: Cells) -> None:
        """See `CellMemory`."""
        if isinstance(source, Int8Cells):
            raise ValueError("int8 cells cannot be put into a pool of float32 cells")
        self._array[:, :, :, places] = source

    def read(self, places: Int) -> Float:
        """See `CellMemory`."""
        return np.ascontiguousarray(self._array[:, :, :, places])

    def move(self, targets: Int, sources: Int) -> None:
        """See `CellMemory`."""
        self._array[:, :, :, targets] = self._array[:, :, :, sources]

    def _empty(self, size: int) -> Float:
        spec = self._spec
        return aligned_floats(len(spec.layers), 2, spec.kv_heads, size, spec.head_size)


class Int8Memory:
    """Cells in int8 with a float32 scale per head, key or value; implements `CellMemory`."""

    def __init__(self, spec: DecoderSpec) -> None:
        """Without cells."""
        self._spec = spec
        self.cell_bytes = 2 * len(spec.layers) * spec.kv_heads * (spec.head_size + 4)
        self._cells = self._empty(0)

    @property
    def cells(self) -> Int8Cells:
        """Aligned, C-contiguous arrays of S cells."""
        return self._cells

    @property
    def nbytes(self) -> int:
        """Bytes of integers and scales."""
        return self._cells.values.nbytes + self._cells.scales.nbytes

    def lay_out(self, size: int, kept: int) -> None:
        """See `CellMemory`."""
        fresh, old = self._empty(size), self._cells
        fresh.values[:, :, :, :kept] = old.values[:, :, :, :kept]
        fresh.scales[:, :, :, :kept] = old.scales[:, :, :, :kept]
        self._cells = fresh

    def write(self, places: Places, source: Cells) -> None:
        """See `CellMemory`; float32 is quantised."""
        cells = source if isinstance(source, Int8Cells) else quantise_cells(source)
        self._cells.values[:, :, :, places] = cells.values
        self._cells.scales[:, :, :, places] = cells.scales

    def read(self, places: Int) -> Int8Cells:
        """See `CellMemory`."""
        values, scales = self._cells.values, self._cells.scales
        return Int8Cells(
            np.ascontiguousarray(values[:, :, :, places]), np.ascontiguousarray(scales[:, :, :, places])
        )

    def move(self, targets: Int, sources: Int) -> None:
        """See `CellMemory`."""
        self._cells.values[:, :, :, targets] = self._cells.values[:, :, :, sources]
        self._cells.scales[:, :, :, targets] = self._cells.scales[:, :, :, sources]

    def _empty(self, size: int) -> Int8Cells:
        spec = self._spec
        shape = (len(spec.layers), 2, spec.kv_heads, size)
        return Int8Cells(aligned_bytes(*shape, spec.head_size), aligned_floats(*shape))


def new_memory(spec: DecoderSpec, cell_type: CellType) -> CellMemory:
    """Memory for cells of a type, without any yet."""
    return Int8Memory(spec) if cell_type == "int8" else FloatMemory(spec)


def quantise_cells(kv: Float) -> Int8Cells:
    """Rounds keys and values to int8, to nearest: each vector's largest magnitude becomes 127.

    Args:
        kv: (..., D) float32.

    Returns:
        `values` (..., D) int8 from -127 to 127 and `scales` (...,) float32; no number is off by more than
        half its scale.
    """
    scales = np.abs(kv).max(axis=-1)
    np.maximum(scales, _SMALLEST, out=scales)
    scales /= LARGEST
    rounded = kv / scales[..., None]
    np.rint(rounded, out=rounded)
    return Int8Cells(rounded.astype(np.int8), scales)


def dequantise_cells(cells: Int8Cells) -> Float:
    """The numbers that int8 cells stand for: (..., D) float32."""
    return cells.values * cells.scales[..., None]
