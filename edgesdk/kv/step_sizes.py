"""Which of a variant's static sizes (T, S, R) to run for a piece of a sequence.

Plain integers: the smallest T that holds the piece, else the largest one as often as it takes; for
that T the smallest S that covers the cells in use, because attention costs what S is, used or not.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import DeviceError

_SPARE_SHARE = 4
"""Cells shrink only when one part in so many of the smaller size stays free: else they soon grow again."""


class StepSizes:
    """The sizes on offer, with the choice among them."""

    def __init__(self, shapes: Iterable[StepShape], context: int) -> None:
        """Checks that every sequence of up to `context` tokens can be run.

        Raises:
            DeviceError: some could not.
        """
        self._shapes = tuple(sorted(shapes))
        self.capacities = tuple(sorted({shape.cells for shape in self._shapes}))
        """Every S on offer, smallest first."""
        if not self._shapes or self.capacities[-1] < context:
            most = self.capacities[-1] if self._shapes else 0
            raise DeviceError(f"the step graph holds {most} cells at most, its context is {context}")

    def pick(self, wanted: int, used: int, held: int, *, all_rows: bool = False) -> StepShape:
        """The size for the next piece.

        Args:
            wanted: tokens still to run; the piece may be shorter.
            used: cells in use.
            held: the S that the cells are laid out for now.
            all_rows: logits of every token are wanted, not only of the last.
        """
        covering = [shape for shape in self._shapes if shape.cells >= used]
        if all_rows:
            covering = [shape for shape in covering if shape.rows == shape.tokens] or covering
        fitting = [shape.tokens for shape in covering if shape.tokens >= wanted]
        tokens = min(fitting) if fitting else max(shape.tokens for shape in covering)
        choices = [shape for shape in covering if shape.tokens == tokens]
        rows = max(shape.rows for shape in choices) if all_rows else min(shape.rows for shape in choices)
        by_cells = {shape.cells: shape for shape in choices if shape.rows == rows}
        smallest = min(by_cells)
        keep = held in by_cells and used > smallest - smallest // _SPARE_SHARE
        return by_cells[held if keep else smallest]

    def capacity_for(self, cells: int) -> int:
        """The smallest S that holds `cells`."""
        return min(size for size in self.capacities if size >= cells)
