"""A tensor store with an adapter laid over another one: changed tensors are computed when they are read.

A row of a changed matrix depends on that row alone, so rows are read apart as before. What is changed no
longer lies in the blocks of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.adapters.adapter import Float, LowRank
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.stored_blocks import BlockStore, BlockType, StoredBlocks, block_type

Rows = NDArray[np.int64]
_ROWS = 1024
"""Changed at a time: in float64 all of a table would take several times its own memory."""


@dataclass(frozen=True)
class Change:
    """What becomes of some rows of a stored tensor.

    Attributes:
        rows: of the stored tensor: (n,), any order.
        sources: rows of the adapter's tensors that belong to them: (n,).
        low_rank: a change to add; None for whole rows.
        whole: gives rows [start, stop) of the tensor that replaces them; None for `low_rank`.
        adds: whole rows are added.
        scale: of what is added.
        offset: added to what replaces, where the two files differ by it.
    """

    rows: Rows
    sources: Rows
    low_rank: LowRank | None = None
    whole: Callable[[int, int], Float] | None = None
    adds: bool = False
    scale: float = 1.0
    offset: float = 0.0

    def apply(self, values: Float, start: int) -> None:
        """Changes rows [start, start + n) of the stored tensor in place: (n, ..)."""
        inside = (self.rows >= start) & (self.rows < start + len(values))
        if not inside.any():
            return
        at, sources = self.rows[inside] - start, self.sources[inside]
        if self.low_rank is not None:
            for first in range(0, len(at), _ROWS):
                some = at[first : first + _ROWS]
                given = sources[first : first + _ROWS]
                values[some] = _changed(values[some], self.low_rank, given, self.scale)
        elif self.whole is not None:
            first = int(sources.min())
            rows = self.whole(first, int(sources.max()) + 1)[sources - first]
            if self.adds:
                values[at] += np.float32(self.scale) * rows
            else:
                values[at] = rows + np.float32(self.offset)


def _changed(rows: Float, change: LowRank, at: Rows, scale: float) -> Float:
    # In float64: what is added is small against what it is added to, and r products cost little.
    added = (change.b[at].astype(np.float64) * (change.scale * scale)) @ change.a.astype(np.float64)
    changed = rows + added
    if change.magnitude is not None:
        norms = np.linalg.norm(changed, axis=1)
        factors = np.divide(change.magnitude[at], norms, out=np.zeros_like(norms), where=norms > 0)
        changed *= factors[:, None]
    return changed.astype(np.float32)


class MergedTensors:
    """Implements `TensorStore`, and `BlockStore` where the base does, over another one."""

    def __init__(
        self,
        base: TensorStore,
        changes: Mapping[str, tuple[Change, ...]],
        kind: str,
        copies: Mapping[str, str],
    ) -> None:
        """Lays `changes` over `base`.

        Args:
            base: the model's own tensors.
            changes: by stored name, in the order in which they are made.
            kind: type of the adapter's tensors, as its file names it.
            copies: new tensors -> those of the base that they are copies of before they are changed.
        """
        self._base, self._changes, self._kind, self._copies = base, changes, kind, copies

    def __iter__(self) -> Iterator[str]:
        """Names, in file order; new ones last."""
        yield from self._base
        yield from self._copies

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._base or name in self._copies

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order."""
        return self._base.shape(self._stored(name))

    def stored_type(self, name: str) -> str:
        """The file's own type name, and the adapter's where that changes it."""
        own = self._base.stored_type(self._stored(name))
        return "+".join(dict.fromkeys((own, self._kind))) if name in self._changes else own

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array."""
        return self._apply(name, self._base.load(self._stored(name)), 0)

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array."""
        return self._apply(name, self._base.load_rows(self._stored(name), start, stop), start)

    def block_type(self, name: str) -> BlockType | None:
        """How a tensor lies in blocks, without reading it; None if it does not, or no longer does."""
        return None if name in self._changes else block_type(self._base, self._stored(name))

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A tensor's blocks.

        Raises:
            CheckpointError: it has none.
        """
        if self.block_type(name) is None or not isinstance(self._base, BlockStore):
            raise CheckpointError(f"the checkpoint does not store {name!r} in blocks")
        return self._base.stored_blocks(self._stored(name))

    def _stored(self, name: str) -> str:
        return self._copies.get(name, name)

    def _apply(self, name: str, values: Float, start: int) -> Float:
        changes = self._changes.get(name, ())
        with np.errstate(over="ignore", invalid="ignore"):
            for change in changes:
                change.apply(values, start)
        if changes and not np.isfinite(values).all():  # rounded to integers it would become some number
            raise CheckpointError(
                f"{name} is not finite once the adapter is merged; its scale is too large, give a smaller one"
            )
        return values
