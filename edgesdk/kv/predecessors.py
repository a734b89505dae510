"""What convolutions read of the tokens before each new one: from cells, or picked among the new tokens.

A row's predecessors are those of its own sequence: the tokens before it in the same step (its ancestors,
where drafts form a tree), then the sequence's last cells, then nothing, which counts as zeros. So chunks,
batches, forks and drafts find them as attention finds its keys (docs/decisions/0027).

The arrays belong to a backend, which several runners may use in turn and several sizes may share, so what
they hold is known once for each array (`predecessors_of`). Nobody else may write these arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Cells, Float, StepBackend, StepBuffers
from edgesdk.bundle.stack_record import BEFORE, picks
from edgesdk.bundle.step_contract import StepContract
from edgesdk.kv.array_state import ArrayStates, state_of
from edgesdk.kv.step_mask import Layout, MaskBlock, layout_of

Places = NDArray[np.intp]


class Predecessors:
    """Says and updates what the arrays of one number of tokens hold."""

    def __init__(self, contract: StepContract, held: int) -> None:
        """Assumes nothing about the arrays' contents.

        Args:
            contract: of the stack.
            held: index of its group of what convolutions keep.
        """
        self._held = held
        self._count = contract.predecessors
        self._picks = picks(contract.predecessors)
        self._layout: Layout | None = None
        self._filled: tuple[Places, Places] | None = None

    def show(self, buffers: StepBuffers, cells: Cells, blocks: Sequence[MaskBlock]) -> None:
        """Fills the arrays for blocks that follow one another from row 0 on.

        Args:
            buffers: of a step.
            cells: of the pool, as the step reads them.
            blocks: rows of one sequence each.
        """
        layout = layout_of(blocks)
        if layout != self._layout:
            # Until all is written nothing is known: an interrupt must not leave it half right.
            self._layout = None
            self._write_picks(buffers, blocks)
            self._layout = layout
        rows, places, sources = self._from_cells(blocks)
        kept = cast(Float, cells.arrays[self._held])[:, 0, 0]  # (convolutions, S, E)
        before = buffers.extra[BEFORE]
        view = before.reshape(len(before), len(kept), self._count, kept.shape[-1])
        filled, self._filled = self._filled, None
        if filled is None:
            view[:] = 0
        elif not (np.array_equal(filled[0], rows) and np.array_equal(filled[1], places)):
            view[filled[0], :, filled[1]] = 0
        view[rows, :, places] = kept[:, sources].swapaxes(0, 1)
        self._filled = rows, places

    def _write_picks(self, buffers: StepBuffers, blocks: Sequence[MaskBlock]) -> None:
        arrays = [buffers.extra[name] for name in self._picks]
        for array in arrays:
            array[:] = 0
        first = 0
        for block in blocks:
            for row, ancestors in enumerate(_ancestors(block, self._count, block.rows)):
                for array, ancestor in zip(arrays, ancestors, strict=False):
                    array[first + row, first + ancestor] = 1
            first += block.rows

    def _from_cells(self, blocks: Sequence[MaskBlock]) -> tuple[Places, Places, Places]:
        """Rows whose predecessors lie in cells, which predecessors (0 the nearest), and in which cells."""
        rows: list[int] = []
        places: list[int] = []
        sources: list[int] = []
        first = 0
        for block in blocks:
            # In a chain only the first rows look back so far.
            near = block.rows if block.parents is not None else min(block.rows, self._count)
            length = block.cells.length
            for row, ancestors in enumerate(_ancestors(block, self._count, near)):
                for place in range(len(ancestors), min(self._count, len(ancestors) + length)):
                    rows.append(first + row)
                    places.append(place)
                    sources.append(block.cells.cell_at(length - 1 - (place - len(ancestors))))
            first += block.rows
        return np.array(rows, np.intp), np.array(places, np.intp), np.array(sources, np.intp)


def _ancestors(block: MaskBlock, most: int, count: int) -> list[list[int]]:
    """For each of the first `count` rows of a block the rows before it, the nearest first, at most `most`."""
    found: list[list[int]] = []
    parents = range(-1, count - 1) if block.parents is None else block.parents[:count].tolist()
    for parent in parents:
        found.append([] if parent < 0 else [parent, *found[parent]][:most])
    return found


_known: ArrayStates[Predecessors] = WeakKeyDictionary()


def predecessors_of(
    backend: StepBackend, buffers: StepBuffers, contract: StepContract
) -> Predecessors | None:
    """What says and updates the arrays of a step, the same for all runners and sizes that share them.

    Args:
        backend: whose arrays they are.
        buffers: the arrays.
        contract: of the stack.

    Returns:
        None for a decoder without convolutions.
    """
    held = contract.held
    if held is None:
        return None
    return state_of(_known, backend, buffers.extra[BEFORE], lambda: Predecessors(contract, held))
