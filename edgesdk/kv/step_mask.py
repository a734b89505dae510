"""The masks of one step size: which cell and which new token every row sees.

A row sees the cells of its own sequence and, among the new tokens, itself and those of its own sequence
that come before it (its ancestors, where drafts form a tree). Rows without a token see themselves only.
Only what differs from what the mask already says is written: for one more token of the same sequence
that is one column, whatever S is.

The arrays belong to a backend, which several runners may use in turn and several sizes may share, so the
state is kept once per array (`mask_of`). Nobody else may write these arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from edgesdk.backends.protocol import MASKED, Float, Int, StepBackend, StepBuffers
from edgesdk.bundle.manifest import StepShape
from edgesdk.kv.array_state import ArrayStates, state_of
from edgesdk.kv.cell_list import CellList


class MaskBlock(NamedTuple):
    """Consecutive rows of one sequence.

    Attributes:
        cells: what the sequence holds before the step.
        rows: how many.
        parents: (rows,) int32, for each row the row of the same block that it follows, -1 for none;
            None for one after the other.
        depths: (rows,) int32, how many tokens after the sequence's first new one; None with `parents`.
    """

    cells: CellList
    rows: int
    parents: Int | None = None
    depths: Int | None = None


@dataclass(slots=True)
class _Shown:
    """What the rows of a block say about cells: those of a list when it had this length."""

    serial: int
    edits: int
    first: int
    rows: int
    length: int

    def begins(self, cells: CellList) -> bool:
        """Whether what is shown is what the list began with, and no cell has been replaced since."""
        return self.serial == cells.serial and self.edits == cells.edits and self.length <= cells.length


Layout = tuple[tuple[int, bytes | None], ...]
"""Rows of each block, and which of its own each follows."""

_ONE_ROW: Layout = ((1, None),)


def layout_of(blocks: Sequence[MaskBlock]) -> Layout:
    """How the rows of blocks belong together."""
    return tuple((b.rows, None if b.parents is None else b.parents.tobytes()) for b in blocks)


class StepMask:
    """Says and updates what the masks of one step size show."""

    def __init__(self, shape: StepShape, window: int | None) -> None:
        """Assumes nothing about the arrays' contents.

        Args:
            shape: T and S.
            window: of the layers that have one.
        """
        self._tokens = shape.tokens
        self._cells = shape.cells
        self._window = window
        self._layout: Layout | None = None
        self._shown: list[_Shown] = []

    def show(self, buffers: StepBuffers, blocks: Sequence[MaskBlock]) -> None:
        """Sets the masks for blocks that follow one another from row 0 on."""
        # Until all is written nothing is known: an interrupt must not leave a half-right mask.
        shown, self._shown = self._shown, []
        layout = layout_of(blocks)
        known = layout == self._layout
        if not known:
            self._layout = None
            self._write_new_tokens(buffers, blocks)
            self._layout = layout
        now: list[_Shown] = []
        first = 0
        for index, block in enumerate(blocks):
            cells, rows = block.cells, block.rows
            row = shown[index] if index < len(shown) else None
            if row is not None and row.begins(cells) and (row.first, row.rows) == (first, rows):
                self._add(buffers, cells, first, rows, row.length)
                # How far back rows see depends on their depth, which the layout says.
                if rows > 1 and not (known and row.length == cells.length):
                    self._write_window(buffers, block, first)
                row.length = cells.length
            else:
                _write_rows(buffers.mask[first : first + rows, : self._cells], cells.cells)
                self._write_window(buffers, block, first)
                row = _Shown(cells.serial, cells.edits, first, rows, cells.length)
            now.append(row)
            first += rows
        self._shown = now

    def show_next(self, buffers: StepBuffers, cells: CellList) -> bool:
        """Sets the masks for one more token of the one sequence that they show, in less time.

        Returns:
            False if they show something else; nothing has changed then.
        """
        shown = self._shown
        if self._layout != _ONE_ROW or not shown:
            return False
        row = shown[0]
        if not row.begins(cells):
            return False
        self._shown = []
        self._add(buffers, cells, 0, 1, row.length)
        row.length = cells.length
        self._shown = shown
        return True

    def _add(self, buffers: StepBuffers, cells: CellList, first: int, rows: int, before: int) -> None:
        """Shows the cells since the list had the length `before`, and of one row the window, too."""
        length = cells.length
        if length == before + 1:
            buffers.mask[first : first + rows, cells.cell_at(before)] = 0.0
        elif length > before:
            new = cells.cells_at(max(before, cells.first), length)
            _set_columns(buffers.mask[first : first + rows], new, 0.0)
        window, mask = self._window, buffers.window_mask
        if window is None or mask is None or rows > 1:
            return
        # What leaves goes first: the cell may have been freed since and hold a later position now.
        lowest = length - window + 1
        for position in range(max(0, before - window + 1), min(before, lowest)):
            mask[first, cells.cell_at(position)] = MASKED
        for position in range(max(before, lowest), length):
            mask[first, cells.cell_at(position)] = 0.0

    def _write_window(self, buffers: StepBuffers, block: MaskBlock, first: int) -> None:
        window, mask = self._window, buffers.window_mask
        if window is None or mask is None:
            return
        cells, length = block.cells, block.cells.length
        rows = mask[first : first + block.rows, : self._cells]
        # The first row sees most; with each step of depth one more cell is out of sight.
        lowest = max(cells.first, length - window + 1)
        _write_rows(rows, cells.cells_at(lowest, length))
        if block.rows == 1:
            return
        depths = np.arange(block.rows) if block.depths is None else block.depths
        highest = min(length, max(lowest, length - window + 1 + int(depths.max())))
        position = np.arange(lowest, highest)
        visible = length + depths[:, None] - position < window
        rows[:, cells.cells_at(lowest, highest)] = np.where(visible, np.float32(0), MASKED)

    def _write_new_tokens(self, buffers: StepBuffers, blocks: Sequence[MaskBlock]) -> None:
        T, S = self._tokens, self._cells
        visible = np.eye(T, dtype=bool)
        depths = np.zeros(T, np.int32)
        first = 0
        for block in blocks:
            end = first + block.rows
            if block.parents is None:
                visible[first:end, first:end] = np.tri(block.rows, dtype=bool)
                depths[first:end] = np.arange(block.rows)
            elif block.depths is not None:
                for row, parent in enumerate(block.parents.tolist()):
                    if parent >= 0:
                        visible[first + row, first : first + row] = visible[
                            first + parent, first : first + row
                        ]
                depths[first:end] = block.depths
            first = end
        buffers.mask[first:, :S] = MASKED
        buffers.mask[:, S:] = np.where(visible, np.float32(0), MASKED)
        if buffers.window_mask is not None and self._window is not None:
            visible &= depths[:, None] - depths < self._window
            buffers.window_mask[first:, :S] = MASKED
            buffers.window_mask[:, S:] = np.where(visible, np.float32(0), MASKED)


def _write_rows(rows: Float, cells: Int) -> None:
    """Makes `cells` visible in every row, and no other."""
    rows[:] = MASKED
    _set_columns(rows, cells, 0.0)


def _set_columns(rows: Float, cells: Int, value: float) -> None:
    if not len(cells):
        return
    first, last = cells.item(0), cells.item(-1)
    # Cells are given out in rising order within one step, but not beyond it.
    if last - first == len(cells) - 1 and (len(cells) < 3 or bool((cells[1:] > cells[:-1]).all())):
        rows[:, first : last + 1] = value
    else:
        rows[:, cells] = value


_masks: ArrayStates[StepMask] = WeakKeyDictionary()


def mask_of(backend: StepBackend, buffers: StepBuffers, shape: StepShape, window: int | None) -> StepMask:
    """What says and updates the masks of some arrays, the same for all runners and sizes that share them.

    Args:
        backend: whose arrays they are.
        buffers: the arrays.
        shape: a size that they belong to.
        window: of the layers that have one; equal wherever the mask is.
    """
    return state_of(_masks, backend, buffers.mask, lambda: StepMask(shape, window))
