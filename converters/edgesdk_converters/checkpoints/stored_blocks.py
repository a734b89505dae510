"""Integers and scales that a file already holds, for those who can keep them as they are.

A block is a run of columns of one row with a scale and perhaps a minimum of its own:
`weight = values * scale + minimum`. Integers are symmetric, so that a file whose integers count from
zero has part of that in its minimums. It knows no file format and no target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

_UNUSED_SCALE = np.float32(1.0)


@dataclass(frozen=True)
class BlockType:
    """What a file says about a tensor's blocks before any is read.

    Attributes:
        name: the file's own type name, e.g. `Q4_1`.
        bits: of the integers, 4 or 8.
        block: columns per block.
        minimums: whether blocks have minimums.
        half_scales: whether every scale is a float16 number.
        positive_scales: whether every scale is known to be above zero, also as a float16 number.
    """

    name: str
    bits: int
    block: int
    minimums: bool
    half_scales: bool = True
    positive_scales: bool = False

    def needs_minimums(self, above_zero: bool) -> bool:
        """Whether blocks have minimums, or need some: a kernel's int4 scales may have to be above zero."""
        return self.minimums or (above_zero and self.bits == 4 and not self.positive_scales)


@dataclass(frozen=True)
class StoredBlocks:
    """A matrix as blocks.

    Attributes:
        kind: type, bits and block size.
        values: (O, I) int8; -8..7 for 4 bits.
        scales: (O, I / block) float32, of either sign or zero; float16 numbers where the kind says so.
        minimums: (O, I / block) float32, or None.
        error: Frobenius norm of what was lost of the file's own numbers, over theirs.
    """

    kind: BlockType
    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    minimums: NDArray[np.float32] | None
    error: float = 0.0

    def take_rows(self, rows: NDArray[np.int64]) -> StoredBlocks:
        """Some rows, in another order; no block spans two rows."""
        minimums = None if self.minimums is None else self.minimums[rows]
        return StoredBlocks(self.kind, self.values[rows], self.scales[rows], minimums)

    def with_half_scales(self) -> StoredBlocks:
        """The same with every scale rounded to float16, and how much of the weight that loses.

        Raises:
            ValueError: a scale is larger than any float16 number.
        """
        if self.kind.half_scales:
            return self
        with np.errstate(over="ignore"):
            scales = self.scales.astype(np.float16).astype(np.float32)
        if not np.isfinite(scales).all():
            raise ValueError(f"a scale of {np.abs(self.scales).max():.6g} is beyond float16")
        rounded = replace(self, kind=replace(self.kind, half_scales=True), scales=scales)
        weight = self.dequantise()
        lost = float(np.square(rounded.dequantise() - weight, dtype=np.float64).sum())
        whole = float(np.square(weight, dtype=np.float64).sum())
        return replace(rounded, error=(lost / whole) ** 0.5 if whole else 0.0)

    def split(self, *, positive_scales: bool) -> tuple[StoredBlocks, NDArray[np.float32] | None]:
        """Parts with one scale per block each, and the minimums: their sum is the weight, exactly.

        Args:
            positive_scales: for kernels that take no other. A 4-bit block with a negative scale d is
                turned: `d q = |d| (-1 - q) + |d|`, where -1 - q flips the bits of q. One with the
                scale 0 has no integers left to say anything.

        Returns:
            Blocks without minimums, and the minimums (O, I / block) float32 or None.
        """
        minimums = self.minimums
        values, scales = self.values, self.scales
        if positive_scales and self.kind.bits == 4 and (scales <= 0).any():
            turned, empty = scales < 0, scales == 0
            minimums = (np.float32(0) if minimums is None else minimums) - np.where(turned, scales, 0)
            blocks = values.reshape(*scales.shape, self.kind.block).copy()
            blocks[turned] = ~blocks[turned]
            blocks[empty] = 0
            values = blocks.reshape(values.shape)
            scales = np.where(empty, _UNUSED_SCALE, np.abs(scales))
        if minimums is not None:
            minimums = np.asarray(minimums, np.float32)
        return StoredBlocks(self.kind, values, scales, None, self.error), minimums

    def dequantise(self) -> NDArray[np.float32]:
        """The weight: (O, I) float32."""
        blocks = self.values.reshape(*self.scales.shape, self.kind.block).astype(np.float32)
        blocks *= self.scales[:, :, None]
        if self.minimums is not None:
            blocks += self.minimums[:, :, None]
        return blocks.reshape(self.values.shape)


def stack_blocks(parts: Sequence[StoredBlocks]) -> StoredBlocks:
    """Matrices of the same kind one below the other.

    Raises:
        ValueError: they are of different kinds.
    """
    if len({part.kind for part in parts}) != 1:
        raise ValueError("only blocks of the same kind can be stacked")
    minimums = [part.minimums for part in parts if part.minimums is not None]
    return StoredBlocks(
        parts[0].kind,
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate(minimums) if minimums else None,
    )


@runtime_checkable
class BlockStore(Protocol):
    """What tensor stores and weights also are when their numbers may lie in blocks."""

    def block_type(self, name: str) -> BlockType | None:
        """How a tensor lies in blocks, without reading it; None if it does not."""

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A tensor's blocks.

        Raises:
            CheckpointError: it has none, or holds numbers that are not finite.
        """


def block_type(store: object, name: str) -> BlockType | None:
    """`BlockStore.block_type` of a store that need not be one."""
    return store.block_type(name) if isinstance(store, BlockStore) else None
