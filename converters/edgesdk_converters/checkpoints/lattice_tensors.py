"""Tensors of another store, whose floating point matrices are blocks too where they lie on a grid of 4 bits.

Quantisation-aware training leaves such checkpoints, as "unquantized" ones; rounded to a grid of its own a
matrix loses what it was trained for. A few rows tell which matrices may lie on one; all of them are read when
somebody asks for their blocks. Numbers stay what the file says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.float_lattice import FLOAT_TYPES, find_lattice
from edgesdk_converters.checkpoints.stored_blocks import BlockStore, BlockType, StoredBlocks, block_type

_BLOCKS = (128, 64, 32)
"""Columns of a group, the fewest scales first; a scale for each row is one for each of its groups."""
_BITS = 4
_SAMPLED_ROWS = 2
_AT_ONCE = 1 << 20  # numbers


@dataclass(frozen=True)
class _Guess:
    """What a few rows say of a matrix: the size of its groups, and whether any needs -8."""

    block: int
    lowest_first: bool


class LatticeTensors:
    """Implements `TensorStore` and `BlockStore` over another store; blocks that it has stay."""

    def __init__(self, base: TensorStore) -> None:
        """Looks at a few rows of every matrix."""
        self._base = base
        guesses = {name: self._guess(name) for name in base}
        self._guesses = {name: guess for name, guess in guesses.items() if guess is not None}
        self._kinds: dict[str, BlockType | None] = {}
        self._scales: dict[str, NDArray[np.float32] | NDArray[np.float16]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was seen, for people: a line if there is any such matrix."""
        if not self._guesses:
            return ()
        sizes = Counter(guess.block for guess in self._guesses.values())
        groups = ", ".join(f"{count} in groups of {size}" for size, count in sorted(sizes.items()))
        matrices = sum(len(self.shape(name)) == 2 for name in self)
        return (
            f"{len(self._guesses)} of {matrices} matrices seem to lie on a grid of {_BITS} bits ({groups}), "
            "as after quantisation-aware training: the recipe source keeps those that do",
        )

    def __iter__(self) -> Iterator[str]:
        """Names, in file order."""
        return iter(self._base)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._base

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order."""
        return self._base.shape(name)

    def stored_type(self, name: str) -> str:
        """The file's own type name."""
        return self._base.stored_type(name)

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array, as the file has it."""
        return self._base.load(name)

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array."""
        return self._base.load_rows(name, start, stop)

    def block_type(self, name: str) -> BlockType | None:
        """How a tensor lies in blocks; one that seems to lie on a grid is read once. None if it does not."""
        if name not in self._guesses:
            return block_type(self._base, name)
        if name not in self._kinds:
            self._kinds[name] = next(
                filter(None, (self._verified(name, b) for b in self._blocks(name))), None
            )
        return self._kinds[name]

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A tensor's blocks: rounded to the file's type, they are its numbers.

        Raises:
            CheckpointError: it has none, or holds numbers that are not finite.
        """
        if name not in self._guesses and isinstance(self._base, BlockStore):
            return self._base.stored_blocks(name)
        kind = self.block_type(name)
        if kind is None:
            raise CheckpointError(f"the checkpoint does not store {name!r} in blocks")
        rows, columns = self.shape(name)
        scales = self._scales[name].astype(np.float32)
        values = np.empty((rows, columns), np.int8)
        for start, stop in self._runs(name):
            divided = self.load_rows(name, start, stop).reshape(stop - start, -1, kind.block)
            divided /= scales[start:stop, :, None]
            values[start:stop] = np.rint(divided).reshape(stop - start, columns)
        return StoredBlocks(kind, values, scales, None)

    def _guess(self, name: str) -> _Guess | None:
        shape, kind = self.shape(name), self.stored_type(name)
        if len(shape) != 2 or kind not in FLOAT_TYPES or block_type(self._base, name) is not None:
            return None
        rows, columns = shape
        if columns % _BLOCKS[-1]:
            return None
        starts = {0, max(rows // 2 - _SAMPLED_ROWS, 0)}
        try:
            seen = [self.load_rows(name, start, min(start + _SAMPLED_ROWS, rows)) for start in sorted(starts)]
        except CheckpointError:  # numbers that are not finite: whoever needs them says so, maybe nobody does
            return None
        sample = np.concatenate(seen)
        groups = sample.reshape(-1, _BLOCKS[-1])
        first = groups[groups.any(axis=1)][:1]  # most matrices lie on none, which one group tells
        if not len(first) or find_lattice(first, kind, lowest_first=False) is None:
            return None
        for block in _BLOCKS:
            if columns % block == 0:
                found = find_lattice(sample.reshape(-1, block), kind, lowest_first=False)
                if found is not None:
                    return _Guess(block, found.lowest)
        return None

    def _blocks(self, name: str) -> list[int]:
        """Sizes of groups to try: what fits the sample may be too large for the rest."""
        guess = self._guesses[name]
        return [block for block in _BLOCKS if block <= guess.block and self.shape(name)[1] % block == 0]

    def _verified(self, name: str, block: int) -> BlockType | None:
        """The kind of a matrix whose every group has a grid; its scales stay in memory."""
        kind, (rows, columns) = self.stored_type(name), self.shape(name)
        lowest_first, found = self._guesses[name].lowest_first, list[NDArray[np.float32]]()
        half = positive = True
        for start, stop in self._runs(name):
            values = self.load_rows(name, start, stop).reshape(-1, block)
            piece = find_lattice(values, kind, lowest_first=lowest_first)
            if piece is None:
                return None
            found.append(piece.scales)  # alone: integers of a whole matrix would be a byte for each number
            half, positive = half and piece.half_scales, positive and piece.positive_scales
        scales = np.concatenate(found).reshape(rows, columns // block)
        self._scales[name] = scales.astype(np.float16) if half else scales
        return BlockType(kind, _BITS, block, False, half, positive)

    def _runs(self, name: str) -> Iterator[tuple[int, int]]:
        """Rows that are read at once."""
        rows, columns = self.shape(name)
        step = max(_AT_ONCE // columns, 1)
        return ((start, min(start + step, rows)) for start in range(0, rows, step))
