"""The memory behind a pool of cells, in the ways in which cells are kept.

float32 and float16: one array, holding them as they are. int8: an array of integers and one of scales, a
quarter of float32's memory and a little more. Every key and every value of a head has a scale of its own,
because a cell is written once and alone: a scale shared with other cells would have to be known before they
are. It knows nothing of who holds a cell.
"""

from __future__ import annotations

import itertools
from typing import Literal, Protocol, cast

import numpy as np

from edgesdk.backends.protocol import Cells, Float, Float16, Int, Int8Cells
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType
from edgesdk.kv.plane_array import PlaneArray, call_uninterrupted

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
        """What a backend reads; replaced by `lay_out`, and not valid after it."""

    @property
    def size(self) -> int:
        """S."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays as they are laid out now."""

    def lay_out(self, size: int, kept: int) -> None:
        """Arranges the arrays for `size` cells, with the first `kept` as they were; all of it or nothing.

        The other cells hold what they hold: zero, or numbers of forgotten cells. Memory that has once been
        in use is kept for the next time, until `size` is 0.
        """

    def write(self, places: Places, source: Cells) -> None:
        """Fills cells.

        Args:
            places: which.
            source: (L, 2, K, n, D) as a step gives them, or cells as `read` does; without n for one place.

        Raises:
            ValueError: they are int8, and these are not.
        """

    def read(self, places: Int) -> Cells:
        """What cells hold, as it is held: a copy."""

    def move(self, targets: Int, sources: Int) -> None:
        """Copies cells onto others."""


class FloatMemory:
    """Cells in float32 or float16; implements `CellMemory`."""

    def __init__(
        self, spec: DecoderSpec, most: int, cell_type: Literal["float32", "float16"] = "float32"
    ) -> None:
        """Without cells, of which there will be `most` at most."""
        planes, cell = (len(spec.layers), 2, spec.kv_heads), (spec.head_size,)
        self._planes: PlaneArray[np.float32] | PlaneArray[np.float16]
        if cell_type == "float16":
            self._planes = PlaneArray(np.float16, planes, cell, most)
        else:
            self._planes = PlaneArray(np.float32, planes, cell, most)
        self.cell_bytes = spec.cell_bytes * self._planes.array.itemsize // 4

    @property
    def cells(self) -> Float | Float16:
        """(L, 2, K, S, D), C-contiguous, aligned."""
        return self._planes.array

    @property
    def size(self) -> int:
        """See `CellMemory`."""
        size: int = self._planes.array.shape[3]
        return size

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self._planes.array.nbytes

    def lay_out(self, size: int, kept: int) -> None:
        """See `CellMemory`."""
        call_uninterrupted(self._planes.calls_to_lay_out(size, kept))

    def write(self, places: Places, source: Cells) -> None:
        """See `CellMemory`."""
        if isinstance(source, Int8Cells):
            raise ValueError(f"int8 cells cannot be put into a pool of {self._planes.array.dtype} cells")
        self._planes.array[:, :, :, places] = source

    def read(self, places: Int) -> Float | Float16:
        """See `CellMemory`."""
        return cast(Float | Float16, np.ascontiguousarray(self._planes.array[:, :, :, places]))

    def move(self, targets: Int, sources: Int) -> None:
        """See `CellMemory`."""
        self._planes.array[:, :, :, targets] = self._planes.array[:, :, :, sources]


class Int8Memory:
    """Cells in int8 with a float32 scale per head, key or value; implements `CellMemory`."""

    def __init__(self, spec: DecoderSpec, most: int) -> None:
        """Without cells, of which there will be `most` at most."""
        self.cell_bytes = 2 * len(spec.layers) * spec.kv_heads * (spec.head_size + 4)
        planes = (len(spec.layers), 2, spec.kv_heads)
        self._values = PlaneArray(np.int8, planes, (spec.head_size,), most)
        self._scales = PlaneArray(np.float32, planes, (), most)
        self._cells = Int8Cells(self._values.array, self._scales.array)

    @property
    def cells(self) -> Int8Cells:
        """Aligned, C-contiguous arrays of S cells; the same object as long as they are laid out so."""
        values, scales = self._values.array, self._scales.array
        if self._cells.values is not values or self._cells.scales is not scales:
            self._cells = Int8Cells(values, scales)
        return self._cells

    @property
    def size(self) -> int:
        """See `CellMemory`."""
        size: int = self._values.array.shape[3]
        return size

    @property
    def nbytes(self) -> int:
        """Bytes of integers and scales."""
        return self._values.array.nbytes + self._scales.array.nbytes

    def lay_out(self, size: int, kept: int) -> None:
        """See `CellMemory`."""
        calls = [plane.calls_to_lay_out(size, kept) for plane in (self._values, self._scales)]
        call_uninterrupted(itertools.chain(*calls))

    def write(self, places: Places, source: Cells) -> None:
        """See `CellMemory`; float32 is quantised."""
        cells = source if isinstance(source, Int8Cells) else quantise_cells(source)
        self._values.array[:, :, :, places] = cells.values
        self._scales.array[:, :, :, places] = cells.scales

    def read(self, places: Int) -> Int8Cells:
        """See `CellMemory`."""
        values, scales = self._values.array, self._scales.array
        return Int8Cells(
            np.ascontiguousarray(values[:, :, :, places]), np.ascontiguousarray(scales[:, :, :, places])
        )

    def move(self, targets: Int, sources: Int) -> None:
        """See `CellMemory`."""
        self._values.array[:, :, :, targets] = self._values.array[:, :, :, sources]
        self._scales.array[:, :, :, targets] = self._scales.array[:, :, :, sources]


def new_memory(spec: DecoderSpec, cell_type: CellType, most: int) -> CellMemory:
    """Memory for cells of a type, `most` at most, without any yet."""
    if cell_type == "int8":
        return Int8Memory(spec, most)
    return FloatMemory(spec, most, cell_type)


def quantise_cells(kv: Float | Float16) -> Int8Cells:
    """Rounds keys and values to int8, to nearest: each vector's largest magnitude becomes 127.

    Args:
        kv: (..., D).

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
