"""All cells of a model: who may write where, how many hold each cell, and the memory they live in.

One memory holds every cell of every sequence, because one step serves them all; it is laid out
anew when it must grow. Cells start as zeros and later hold what was written last, so that a masked
cell contributes exactly nothing (garbage could be NaN, and 0 times NaN is NaN).

It knows indices and counts, not tokens: which cell holds what is known by the *holders* (lists, the
prefix tree). What holders hold is the truth, the counts follow from it. A holder brackets its changes
with `begin` and `end`; after an interrupt in between, or when a holder was forgotten instead of closed,
the counts are taken anew from the holders. So nothing leaks, wherever Ctrl-C strikes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet

import numpy as np

from edgesdk.backends.not_finite import require_finite
from edgesdk.backends.protocol import Cells, Int
from edgesdk.bundle.manifest import CellType
from edgesdk.bundle.step_contract import StepContract
from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.cell_memory import CellMemory
from edgesdk.kv.step_sizes import StepSizes


class CellHolder(Protocol):
    """Whoever keeps cells beyond a call."""

    def held_cells(self) -> Int:
        """Every cell it holds, once: (n,) int32."""

    def renumber(self, moved: Int) -> None:
        """Cell i is `moved[i]` from now on."""


class CellPool:
    """Gives out cells, lowest index first, and counts their holders. One thread at a time."""

    def __init__(self, contract: StepContract, sizes: StepSizes, capacity: int | None = None) -> None:
        """Starts without memory.

        Args:
            contract: of the steps that read the cells.
            sizes: the S on offer.
            capacity: most cells to give out; the largest S when None.

        Raises:
            DeviceError: the largest S is smaller than `capacity`.
        """
        self._sizes = sizes
        most = sizes.capacities[-1]
        self.capacity = most if capacity is None else capacity
        """Most cells that can be in use."""
        if not 0 < self.capacity <= most:
            raise DeviceError(f"the step graph holds {most} cells at most, found a pool of {self.capacity}")
        self.contract = contract
        """Of the steps that read the cells."""
        self._memory = CellMemory(contract, most)
        self.bytes_per_cell = self._memory.cell_bytes
        """Bytes of one cell's keys and values."""
        self.frontier = 0
        """One more than the highest index in use."""
        self._counts = np.zeros(self.capacity, np.int32)
        self._used = 0
        self._settled = True
        self._lost = False
        self._holders: WeakSet[CellHolder] = WeakSet()

    @property
    def cell_type(self) -> CellType:
        """How cells are stored."""
        return self.contract.cell_type

    @property
    def cells(self) -> Cells:
        """All cells, as backends read them; not valid any more when the pool has grown or shrunk."""
        return self._memory.cells

    @property
    def size(self) -> int:
        """S that the memory is laid out for."""
        return self._memory.size

    @property
    def used(self) -> int:
        """Cells with a holder; one with several counts once."""
        if self._lost or not self._settled:
            self._recount()
        return self._used

    @property
    def free(self) -> int:
        """Cells that can still be allocated."""
        return self.capacity - self.used

    @property
    def nbytes(self) -> int:
        """Bytes of the memory as it is laid out now."""
        return self._memory.nbytes

    def register(self, holder: CellHolder) -> None:
        """Makes a holder known for as long as it lives."""
        self._holders.add(holder)

    def begin(self) -> None:
        """A holder is about to change what it holds."""
        if self._lost or not self._settled:
            self._recount()
        self._settled = False

    def end(self) -> None:
        """Counts and holders agree again."""
        self._settled = True

    def lose(self) -> None:
        """A holder is gone that has not released its cells. May be called at any time, by any thread."""
        self._lost = True

    def allocate(self, count: int) -> Int:
        """Takes free cells, lowest first; the caller is their only holder.

        Returns:
            (count,) int32, rising.

        Raises:
            CapacityError: there are not as many; nothing has changed.
        """
        if count > self.capacity - self._used:
            raise CapacityError(
                f"{count} cells are needed, {self.capacity - self._used} of {self.capacity} are free; "
                "end or shorten other sequences"
            )
        holes = self.frontier - self._used
        if not holes:
            found = np.arange(self.frontier, self.frontier + count, dtype=np.int32)
        elif count == 1:
            # Within the frontier the smallest count is 0, and argmin finds its first place.
            found = np.array([self._counts[: self.frontier].argmin()], np.int32)
        else:
            found = np.flatnonzero(self._counts[: self.frontier] == 0)[:count].astype(np.int32)
            rest = np.arange(self.frontier, self.frontier + count - len(found), dtype=np.int32)
            found = np.concatenate([found, rest])
        if count:
            self._counts[found] = 1
            self._used += count
            self.frontier = max(self.frontier, int(found[-1]) + 1)
        return found

    def share(self, cells: Int) -> None:
        """Counts one more holder of each; no cell may occur twice.

        Raises:
            ValueError: one of them is free.
        """
        if len(cells) and not self._counts[cells].all():
            raise ValueError("a free cell cannot be shared")
        self._counts[cells] += 1

    def release(self, cells: Int) -> None:
        """Counts one holder less of each, which frees those without any; no cell may occur twice.

        Raises:
            ValueError: one of them is free already; nothing has changed.
        """
        if not len(cells):
            return
        left = self._counts[cells] - 1
        lowest = int(left.min())
        if lowest < 0:
            raise ValueError("a free cell cannot be released")
        self._counts[cells] = left
        if lowest:
            return
        freed = cells[left == 0]
        self._used -= len(freed)
        if int(freed.max()) == self.frontier - 1:
            self._find_frontier()

    def shared(self, cells: Int) -> int:
        """How many of `cells`, from the first on, have a holder beside the caller up to the last that has."""
        others = np.flatnonzero(self._counts[cells] > 1)
        return int(others[-1]) + 1 if len(others) else 0

    def write(self, cells: Int, kv: Cells, rows: Int | None = None) -> None:
        """Copies keys and values into cells, growing the memory if need be.

        Args:
            cells: (n,) int32, rising.
            kv: of T new tokens as a step gives them, or cells of this pool's type as `read` does.
            rows: (n,) int32, which of the T tokens; the first n when None.

        Raises:
            NotFiniteError: some are NaN or infinity; nothing has been copied.
        """
        count = len(cells)
        first, last = int(cells[0]), int(cells[-1])
        source = kv.take(slice(count) if rows is None else rows)
        require_finite(source, self.contract)
        if last >= self.size:
            self.resize(self._sizes.capacity_for(last + 1))
        self._memory.write(slice(first, last + 1) if last - first == count - 1 else cells, source)

    def store_next(self, kv: Cells) -> int:
        """Like `allocate` and `write` for one token, in less time; returns the cell.

        Args:
            kv: its keys and values, as `Cells.take` gives them for one.

        Raises:
            CapacityError: no cell is free; nothing has changed.
            NotFiniteError: some are NaN or infinity; nothing has been copied.
        """
        cell = self.frontier
        if self._used != cell or cell >= self.size or cell >= self.capacity:
            cell = int(self.allocate(1)[0])
            require_finite(kv, self.contract)
            if cell >= self.size:
                self.resize(self._sizes.capacity_for(cell + 1))
        else:
            require_finite(kv, self.contract)
            self._counts[cell] = 1
            self._used += 1
            self.frontier = cell + 1
        self._memory.write(cell, kv)
        return cell

    def read(self, cells: Int) -> Cells:
        """Keys and values of n cells, as they are stored: a copy."""
        return self._memory.read(cells)

    def resize(self, size: int) -> None:
        """Lays the memory out for `size` cells, at least as many as the frontier."""
        # `write` resizes for cells that are beyond the old memory, so both ends count.
        self._memory.lay_out(size, min(self.frontier, size, self.size))

    def moves_to_compact(self) -> int:
        """Cells that `compact` would move."""
        return int(np.count_nonzero(self._counts[self.used : self.frontier]))

    def compact(self) -> int:
        """Moves the highest cells into the gaps, so that the frontier is the number in use.

        Returns:
            How many were moved.
        """
        self.begin()
        used = self._used
        sources = (np.flatnonzero(self._counts[used : self.frontier]) + used).astype(np.int32)
        if len(sources):
            targets = np.flatnonzero(self._counts[:used] == 0).astype(np.int32)
            # The originals stay as they are: a holder that an interrupt keeps from being told is right, too.
            self._memory.move(targets, sources)
            moved = np.arange(self.capacity, dtype=np.int32)
            moved[sources] = targets
            for holder in list(self._holders):
                holder.renumber(moved)
            self._counts[targets] = self._counts[sources]
            self._counts[sources] = 0
            self.frontier = used
        self.end()
        return len(sources)

    def check(self, holders: Iterable[CellHolder]) -> None:
        """Checks the accounts.

        Args:
            holders: all there should be.

        Raises:
            ValueError: a cell has another number of holders than is counted, or a sum is wrong.
        """
        if self._lost or not self._settled:
            self._recount()
        counts = self._count(holders)
        wrong = np.flatnonzero(counts != self._counts)
        if len(wrong):
            cell = int(wrong[0])
            raise ValueError(
                f"{len(wrong)} cells have other holders than counted: cell {cell} is held {counts[cell]} "
                f"times, counted {self._counts[cell]}"
            )
        in_use = np.flatnonzero(counts)
        frontier = int(in_use[-1]) + 1 if len(in_use) else 0
        if (len(in_use), frontier) != (self._used, self.frontier):
            raise ValueError(
                f"{len(in_use)} cells below {frontier} are in use, counted {self._used} below {self.frontier}"
            )

    def _count(self, holders: Iterable[CellHolder]) -> Int:
        counts = np.zeros(self.capacity, np.int32)
        for holder in holders:
            found = np.bincount(holder.held_cells(), minlength=self.capacity)
            if found.max(initial=0) > 1:
                raise ValueError(f"cell {int(found.argmax())} is held twice by one holder")
            counts += found.astype(np.int32)
        return counts

    def _recount(self) -> None:
        """Takes the counts anew from the holders, after an interrupt or when one was forgotten."""
        self._lost = False
        self._counts = self._count(list(self._holders))
        self._used = int(np.count_nonzero(self._counts))
        self.frontier = self.capacity
        self._find_frontier()
        self._settled = True

    def _find_frontier(self) -> None:
        in_use = np.flatnonzero(self._counts[: self.frontier])
        self.frontier = int(in_use[-1]) + 1 if len(in_use) else 0
