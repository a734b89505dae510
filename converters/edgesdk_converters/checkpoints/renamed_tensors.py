"""Tensors of another store under the names of a plain decoder, some of them left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.stored_blocks import BlockStore, BlockType, StoredBlocks, block_type


class RenamedTensors:
    """Implements `TensorStore` and `BlockStore` over another store."""

    def __init__(self, base: TensorStore, names: Mapping[str, str]) -> None:
        """Shows the tensors of `base` that `names` (new -> stored) lists, and no others."""
        self._base, self._names = base, dict(names)

    def __iter__(self) -> Iterator[str]:
        """New names, in file order."""
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that new name."""
        return name in self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order."""
        return self._base.shape(self._stored(name))

    def stored_type(self, name: str) -> str:
        """The file's own type name."""
        return self._base.stored_type(self._stored(name))

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array."""
        return self._base.load(self._stored(name))

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array."""
        return self._base.load_rows(self._stored(name), start, stop)

    def block_type(self, name: str) -> BlockType | None:
        """How a tensor lies in blocks; None if it does not."""
        return block_type(self._base, self._stored(name))

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A tensor's blocks.

        Raises:
            CheckpointError: it has none, or holds numbers that are not finite.
        """
        if not isinstance(self._base, BlockStore):
            raise CheckpointError(f"the checkpoint does not store {name!r} in blocks")
        return self._base.stored_blocks(self._stored(name))

    def _stored(self, name: str) -> str:
        if name not in self._names:
            raise CheckpointError(f"the checkpoint has no tensor {name!r}")
        return self._names[name]
