"""Memory for a number of cells that changes: contiguous at any S, and resized where it stands.

Backends want each head's keys as one (S, D) plane, so another S puts every plane elsewhere. Taking fresh
memory for that costs far more in page faults than in copying (docs/engine.md), and it falls into the
middle of somebody's answer. So address space is reserved once, pages are touched when they are needed,
and planes are moved within it. It knows nothing of what a plane holds.
"""

from __future__ import annotations

import ctypes
import math
import operator
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.aligned_array import aligned_bytes

Number = TypeVar("Number", np.float32, np.float16, np.int8)
Call = Callable[[], object]

_RESERVED_BYTES = 256 << 20
"""Reserved at once, or all that will ever be needed if that is less; later twice what is asked for."""


class PlaneArray(Generic[Number]):
    """Planes of S cells, one after the other.

    Attributes:
        array: (*planes, S, *cell), C-contiguous, at a multiple of 64.
    """

    def __init__(
        self, number: type[Number], planes: tuple[int, ...], cell: tuple[int, ...], most: int
    ) -> None:
        """Without cells.

        Args:
            number: float32, float16 or int8.
            planes: their number, by axis.
            cell: shape of what a plane holds of one cell.
            most: cells that there will hardly be more of.
        """
        self._number: type[Number] = number
        self._planes, self._cell = planes, cell
        self._cell_bytes = math.prod(cell) * np.dtype(number).itemsize
        """Bytes of one cell in one plane."""
        self._count = math.prod(planes)
        self._most_bytes = most * self._cell_bytes * self._count
        self._memory = aligned_bytes(0)
        self.array: NDArray[Number] = self._view(self._memory, 0)

    def calls_to_lay_out(self, size: int, kept: int) -> list[Call]:
        """What has to be called, in this order and uninterrupted, for another S.

        Args:
            size: the new S; with 0 the memory is given back.
            kept: the first cells, which stay as they are. The others hold some finite number or other.
        """
        wanted = size * self._cell_bytes * self._count
        memory = self._memory
        if not size:
            memory = aligned_bytes(0)
        elif wanted > len(memory):
            reserved = min(self._most_bytes, max(2 * wanted, _RESERVED_BYTES))
            memory = aligned_bytes(max(wanted, reserved))
        before, after = self.array.shape[len(self._planes)] * self._cell_bytes, size * self._cell_bytes
        length = kept * self._cell_bytes
        # No plane is overwritten before it has moved: the last goes first when they move apart.
        order = range(self._count) if after < before else range(self._count - 1, -1, -1)
        calls: list[Call] = []
        if length:
            source, target = self._memory.ctypes.data, memory.ctypes.data
            calls = [
                partial(ctypes.memmove, target + plane * after, source + plane * before, length)
                for plane in order
            ]
        calls.append(partial(setattr, self, "array", self._view(memory, size)))
        calls.append(partial(setattr, self, "_memory", memory))
        return calls

    def _view(self, memory: NDArray[np.int8], size: int) -> NDArray[Number]:
        shape = (*self._planes, size, *self._cell)
        used = memory[: math.prod(shape) * np.dtype(self._number).itemsize]
        view: NDArray[Number] = used.view(self._number).reshape(shape)
        return view


def call_uninterrupted(calls: Iterable[Call]) -> None:
    """Calls one after the other with no moment between them at which Ctrl-C could strike.

    Python looks for signals between the instructions of Python code, and this loop has none.
    """
    deque(map(operator.call, calls), maxlen=0)
