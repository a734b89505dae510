"""The memory behind a pool of cells: an array for each group of the step's contract.

float32 and float16: one array for each kind of layer, holding them as they are. What convolutions keep is
float32 whatever keys and values are, since it is added up, not weighed. int8: an array of integers
and one of scales, a quarter of float32's memory and a little more. Every key and every value of a head has a
scale of its own, because a cell is written once and alone: a scale shared with other cells would have to be
known before they are. It knows nothing of who holds a cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from edgesdk.backends.protocol import Array, Cells, Int
from edgesdk.bundle.step_contract import StepContract
from edgesdk.kv.plane_array import PlaneArray, call_uninterrupted

Places = Int | slice | int
"""Which cells: their indices, a range of them, or one, whose axis is then missing."""

LARGEST = np.float32(127)
"""Integers are symmetric, so -128 is not used."""

_SMALLEST = np.float32(1e-30)
"""Below it a vector counts as zero: its scale's inverse must be a float32."""


class CellMemory:
    """Arrays for a number of cells that changes."""

    def __init__(self, contract: StepContract, most: int) -> None:
        """Without cells.

        Args:
            contract: whose groups are kept.
            most: cells that there will hardly be more of.
        """
        self._planes = tuple(
            PlaneArray(np.dtype(group.dtype).type, group.planes, group.tail, most)
            for group in contract.groups
        )
        self._store: Callable[[Cells], Cells] = STORES.get(contract.cell_type, _as_it_is)
        self._held = contract.held is not None
        self._cells = self._current()
        self.cell_bytes = contract.cell_bytes
        """Bytes of one cell, its scales included."""

    @property
    def cells(self) -> Cells:
        """What a backend reads, contiguous and aligned; replaced by `lay_out`, and not valid after it."""
        # All arrays are replaced at once, whatever interrupts.
        if self._cells.arrays[0] is not self._planes[0].array:
            self._cells = self._current()
        return self._cells

    @property
    def size(self) -> int:
        """S."""
        size: int = self._planes[0].array.shape[3]
        return size

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays as they are laid out now."""
        return sum(plane.array.nbytes for plane in self._planes)

    def lay_out(self, size: int, kept: int) -> None:
        """Arranges the arrays for `size` cells, with the first `kept` as they were; all of it or nothing.

        The other cells hold what they hold: zero, or numbers of forgotten cells. Memory that has once been
        in use is kept for the next time, until `size` is 0.
        """
        calls = [plane.calls_to_lay_out(size, kept) for plane in self._planes]
        call_uninterrupted(itertools.chain.from_iterable(calls))
        self._cells = self._current()  # else what was given back stays until somebody asks

    def write(self, places: Places, source: Cells) -> None:
        """Fills cells.

        Args:
            places: which.
            source: as a step gives them, or as `read` does; without their axis for one place.

        Raises:
            ValueError: they are int8, and these are not.
        """
        stored, planes = self._stored(source), self._planes
        if len(stored) != len(planes):
            raise ValueError(
                f"{source.cell_type} cells cannot be put into a pool of {planes[0].array.dtype} cells"
            )
        for plane, array in zip(planes, stored, strict=True):
            plane.array[:, :, :, places] = array

    def read(self, places: Int) -> Cells:
        """What cells hold, as it is held: a copy."""
        return Cells(tuple([np.ascontiguousarray(plane.array[:, :, :, places]) for plane in self._planes]))

    def move(self, targets: Int, sources: Int) -> None:
        """Copies cells onto others."""
        for plane in self._planes:
            plane.array[:, :, :, targets] = plane.array[:, :, :, sources]

    def _stored(self, source: Cells) -> tuple[Array, ...]:
        """New cells as they are kept: what convolutions keep, the last array, as it comes."""
        if not self._held or self._store is _as_it_is:
            return self._store(source).arrays
        return (*self._store(Cells(source.arrays[:-1])).arrays, source.arrays[-1])

    def _current(self) -> Cells:
        return Cells(tuple([plane.array for plane in self._planes]))


def quantise_cells(new: Cells) -> Cells:
    """Rounds keys and values to int8, to nearest: each vector's largest magnitude becomes 127.

    Args:
        new: as a step gives them, (..., D) for each kind of layer; what is int8 already stays as it is.

    Returns:
        For each kind of layer (..., D) int8 from -127 to 127 and (...,) float32 scales; no number is off by
        more than half its scale.
    """
    if new.arrays[0].dtype == np.int8:
        return new
    return Cells(tuple([array for kv in new.arrays for array in _quantise(kv)]))


def dequantise_cells(cells: Cells) -> Cells:
    """The numbers that int8 cells stand for: (..., D) float32 for each kind of layer."""
    values, scales = cells.arrays[::2], cells.arrays[1::2]
    return Cells(tuple([v * s[..., None] for v, s in zip(values, scales, strict=True)]))


def _quantise(kv: Array) -> tuple[Array, Array]:
    scales = np.abs(kv).max(axis=-1)
    np.maximum(scales, _SMALLEST, out=scales)
    scales /= LARGEST
    rounded = kv / scales[..., None]
    np.rint(rounded, out=rounded)
    return rounded.astype(np.int8), scales


def _as_it_is(new: Cells) -> Cells:
    return new


STORES: dict[str, Callable[[Cells], Cells]] = {"int8": quantise_cells}
"""What makes cells of new keys and values, by the type of the cells; others are kept as they are."""
