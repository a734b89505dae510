"""How the rows of a canonical weight come out of a stored tensor, as plain data.

Each combine can say which source row feeds every target row, so a caller that keeps quantised rows
whole (one block never spans two rows) can carry them through without dequantising. It does not know
files or names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Copy:
    """The tensor as it is."""

    @property
    def offset(self) -> float:
        """Added to every value."""
        return 0.0

    def source_shape(self, shape: Shape) -> Shape:
        """Shape the stored tensor must have for a weight of `shape`."""
        return shape

    def source_rows(self, count: int) -> NDArray[np.int64]:
        """Source row of each of `count` target rows: (count,) int64."""
        return np.arange(count, dtype=np.int64)

    def columns(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of stored rows belongs to the weight."""
        return rows


@dataclass(frozen=True)
class AddOne(Copy):
    """The tensor plus one: norms that multiply by 1 + weight (gemma, in Hugging Face files)."""

    @property
    def offset(self) -> float:
        """Added to every value."""
        return 1.0


@dataclass(frozen=True)
class SliceRows(Copy):
    """Consecutive rows of a fused tensor.

    Attributes:
        start: first row.
        total: rows of the fused tensor.
    """

    start: int
    total: int

    def source_shape(self, shape: Shape) -> Shape:
        """Shape the stored tensor must have for a weight of `shape`."""
        return (self.total, *shape[1:])

    def source_rows(self, count: int) -> NDArray[np.int64]:
        """Source row of each of `count` target rows: (count,) int64."""
        return np.arange(self.start, self.start + count, dtype=np.int64)


@dataclass(frozen=True)
class PairHalves(Copy):
    """Rows of each head stored for neighbour-paired rotation, reordered for half-split pairing.

    GGUF stores q and k of llama-like models so that channels 2j and 2j + 1 rotate together; the graph
    rotates channel j with j + D/2, as Hugging Face files do.

    Attributes:
        heads: how many heads the rows hold.
    """

    heads: int

    def source_rows(self, count: int) -> NDArray[np.int64]:
        """Source row of each of `count` target rows: (count,) int64."""
        stored = np.arange(count, dtype=np.int64).reshape(self.heads, -1, 2)
        return stored.swapaxes(1, 2).reshape(count)


@dataclass(frozen=True)
class Repeat(Copy):
    """One stored number, for every row."""

    def source_shape(self, shape: Shape) -> Shape:
        """Shape the stored tensor must have for a weight of `shape`."""
        return (1, *shape[1:])

    def source_rows(self, count: int) -> NDArray[np.int64]:
        """Source row of each of `count` target rows: (count,) int64."""
        return np.zeros(count, np.int64)


@dataclass(frozen=True)
class Tap(Copy):
    """One column of a convolution that every channel has for itself.

    Attributes:
        column: which.
        axes: of the stored tensor behind its rows; the last are the columns.
    """

    column: int
    axes: Shape

    def source_shape(self, shape: Shape) -> Shape:
        """Shape the stored tensor must have for a weight of `shape`."""
        return (*shape, *self.axes)

    def columns(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of stored rows belongs to the weight."""
        return np.ascontiguousarray(rows.reshape(len(rows), -1)[:, self.column])


Combine = Copy | AddOne | SliceRows | PairHalves | Repeat | Tap
