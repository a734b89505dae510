"""A tensor store that shows only some rows of some tensors; the others pass through.

Rows are gathered a block at a time, so memory is that of the result. A row is never computed with, so a
store of quantised rows can be gathered the same way (`source_rows`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.stored_blocks import BlockStore, BlockType, StoredBlocks, block_type

_BLOCK_ROWS = 4096


class PrunedTensors:
    """Implements `TensorStore`, and `BlockStore` where the base does, over another one."""

    def __init__(self, base: TensorStore, pruned: frozenset[str], rows: NDArray[np.int64]) -> None:
        """Shows `rows`, which ascend, of the tensors named in `pruned`."""
        self._base = base
        self._pruned = pruned
        self._rows = rows

    def source_rows(self, name: str) -> NDArray[np.int64] | None:
        """Row of the base by row of this store: (N,) int64; None for a tensor that passes through."""
        return self._rows if name in self._pruned else None

    def __iter__(self) -> Iterator[str]:
        """Names, in file order."""
        return iter(self._base)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._base

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order."""
        shape = self._base.shape(name)
        return (len(self._rows), *shape[1:]) if name in self._pruned else shape

    def stored_type(self, name: str) -> str:
        """The file's own type name."""
        return self._base.stored_type(name)

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array."""
        if name not in self._pruned:
            return self._base.load(name)
        return self._gather(name, self._rows)

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array.

        Raises:
            CheckpointError: there are no such rows.
        """
        if name not in self._pruned:
            return self._base.load_rows(name, start, stop)
        if not 0 <= start <= stop <= len(self._rows):
            raise CheckpointError(f"rows {start} to {stop} of {name!r} lie outside its {len(self._rows)}")
        return self._gather(name, self._rows[start:stop])

    def block_type(self, name: str) -> BlockType | None:
        """How a tensor lies in blocks, without reading it; None if it does not."""
        return block_type(self._base, name)

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A tensor's blocks, of the shown rows.

        Raises:
            CheckpointError: it has none.
        """
        if not isinstance(self._base, BlockStore):
            raise CheckpointError(f"the checkpoint does not store {name!r} in blocks")
        blocks = self._base.stored_blocks(name)
        return blocks.take_rows(self._rows) if name in self._pruned else blocks

    def _gather(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        result = np.empty((len(rows), *self._base.shape(name)[1:]), np.float32)
        done = 0
        while done < len(rows):
            first = int(rows[done])
            end = int(np.searchsorted(rows, first + _BLOCK_ROWS))
            block = self._base.load_rows(name, first, int(rows[end - 1]) + 1)
            result[done:end] = block[rows[done:end] - first]
            done = end
        return result
