"""One sequence's tokens and the cells that hold their keys and values.

It knows which cell holds which position; it does not know what a cell contains, nor how the sequence
goes on. Lists may share cells: what is shared is read by all and written by nobody.
"""

from __future__ import annotations

import itertools
from typing import Self

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.bundle.adapter_record import Gates
from edgesdk.errors import CapacityError
from edgesdk.kv.cell_pool import CellPool

_serials = itertools.count()

_FIRST_ROOM = 64


class CellList:
    """Position i is held by the i-th cell.

    Where every layer of a model has a sliding window, cells that have left it are freed while the list
    grows: then `cells` begins at position `first`.

    Attributes:
        pool: whose cells.
        closed: whether it was closed.
        serial: unlike any other list's in this process.
        edits: changes whenever an earlier cell may have been replaced, not when cells are added.
        length: tokens it holds.
        first: first position that still has a cell.
        gates: factors that its tokens are run with, on which keys and values depend.
    """

    __slots__ = (
        "__weakref__",
        "_cells",
        "_reach",
        "_tokens",
        "closed",
        "edits",
        "first",
        "gates",
        "length",
        "pool",
        "serial",
    )

    def __init__(self, pool: CellPool, reach: int | None = None, gates: Gates = ()) -> None:
        """Starts empty. `StepRunner.new_list` makes lists.

        Args:
            pool: whose cells.
            reach: cells that the next token sees at most, all others being freed; None for all.
            gates: as the attribute.
        """
        self.length = 0
        self.pool = pool
        self._reach = reach
        self._tokens = np.empty(_FIRST_ROOM, np.int32)
        self._cells = np.empty(_FIRST_ROOM, np.int32)
        self.closed = False
        self.serial = next(_serials)
        self.edits = 0
        self.first = 0
        self.gates = gates

    def __del__(self) -> None:
        """A list that is forgotten instead of closed gives its cells back, too, if later."""
        if getattr(self, "length", 0):  # it may not even have been made
            # The pool does not know it any more. Should another finaliser bring it back, it is empty.
            self.edits += 1
            self.length = self.first = 0
            self.pool.lose()

    @property
    def tokens(self) -> Int:
        """(length,) int32, a view."""
        return self._tokens[: self.length]

    @property
    def cells(self) -> Int:
        """(length - first,) int32, a view."""
        return self._cells[self.first : self.length]

    def held_cells(self) -> Int:
        """Every cell it holds: (n,) int32, a view."""
        return self.cells

    def cells_at(self, first: int, last: int) -> Int:
        """Cells of the positions from `first` to `last` - 1, a view.

        Before `first` they are the cells that once held these positions.
        """
        return self._cells[first:last]

    def cell_at(self, position: int) -> int:
        """The cell of one position, as `cells_at`."""
        cell: int = self._cells.item(position)
        return cell

    def fork(self) -> Self:
        """A second list with the same tokens, sharing every cell."""
        copy = type(self)(self.pool, self._reach, self.gates)
        self.pool.begin()
        self.pool.share(self.cells)
        self.pool.register(copy)
        copy._tokens = self._tokens.copy()
        copy._cells = self._cells.copy()
        copy.first = self.first
        copy.length = self.length
        self.pool.end()
        return copy

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on.

        Raises:
            CapacityError: it does not hold as many, or cells that the next token would see are freed.
        """
        if not 0 <= length <= self.length:
            raise CapacityError(f"cannot shorten {self.length} tokens to {length}")
        if length == self.length:
            return
        if self._reach is not None and length > 0 and length - self._reach < self.first > 0:
            raise CapacityError(
                f"cannot shorten {self.length} tokens to {length}: every layer has a sliding window, and the "
                f"cells before position {self.first} are freed; run the tokens again"
            )
        self.pool.begin()
        released = self._cells[max(length, self.first) : self.length].copy()
        self.edits += 1
        self.length = length
        self.first = min(self.first, length)
        self.pool.release(released)
        self.pool.end()

    def adopt(self, tokens: Int, cells: Int) -> None:
        """Adds tokens whose keys and values are in cells already; the cells are shared from now on.

        Args:
            tokens: (n,) int32, at the positions after those that the list holds.
            cells: (n,) int32, which must have been computed after the same tokens as the list's.

        Raises:
            ValueError: their numbers differ, or a cell is free.
        """
        if len(tokens) != len(cells):
            raise ValueError(f"{len(tokens)} tokens cannot have {len(cells)} cells")
        self.pool.begin()
        self.pool.share(cells)
        self.append(tokens, cells)
        self.pool.end()

    def append(self, tokens: Int, cells: Int) -> None:
        """Adds tokens in cells that the caller has allocated for them, between `begin` and `end`."""
        start = self.length
        if not start:
            self.pool.register(self)
        total = start + len(tokens)
        if total > len(self._tokens):
            self._reserve(total)
        self._tokens[start:total] = tokens
        self._cells[start:total] = cells
        if self.first > start:  # an interrupt has struck in the middle of `truncate`
            self.first = start
        self.length = total

    def append_next(self, token: Int, cell: int) -> None:
        """Like `append` for one token, (1,) int32, in less time."""
        start = self.length
        if not start:
            self.pool.register(self)
        if start == len(self._tokens):
            self._reserve(start + 1)
        self._tokens[start] = token[0]
        self._cells[start] = cell
        if self.first > start:  # as in `append`
            self.first = start
        self.length = start + 1

    def release_unreachable(self) -> None:
        """Frees the cells that no later token sees, between `begin` and `end`."""
        if self._reach is None:
            return
        first = self.length - self._reach
        if first > self.first:
            released = self._cells[self.first : first]
            self.first = first
            self.pool.release(released)

    def restore(self, length: int, first: int) -> None:
        """Takes back what `append` and `release_unreachable` did since the list had these figures."""
        if (length, first) != (self.length, self.first):
            self.edits += 1
            self.first = first
            self.length = length

    def renumber(self, moved: Int) -> None:
        """Cell i is `moved[i]` from now on."""
        self.edits += 1
        self._cells[self.first : self.length] = moved[self.cells]

    def close(self) -> None:
        """Releases the cells; the list cannot be run any more."""
        self.truncate(0)
        self.closed = True

    def _reserve(self, total: int) -> None:
        room = max(total, 2 * len(self._tokens))
        tokens, cells = np.empty(room, np.int32), np.empty(room, np.int32)
        tokens[: self.length] = self.tokens
        cells[: self.length] = self._cells[: self.length]
        self._tokens, self._cells = tokens, cells
