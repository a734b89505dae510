"""Which of a variant's static sizes (T, S, R) to run.

Plain integers: the smallest T that holds the tokens, for it the smallest R that holds the wanted rows,
and for both the smallest S that covers the cells in use, because attention costs what S is, used or
not.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import CapacityError, DeviceError

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

    def token_budgets(self, cells: int) -> tuple[int, ...]:
        """Every T on offer whatever part of `cells` is in use, smallest first."""
        return tuple(sorted({shape.tokens for shape in self._shapes if shape.cells >= cells}))

    def most_rows(self, tokens: int, cells: int) -> int:
        """R of the size that runs so many tokens while so many cells are in use."""
        return self.pick(tokens, tokens, cells, 0).rows

    def piece(self, wanted: int, used: int, *, all_rows: bool = False) -> int:
        """How many of a sequence's tokens the next step runs best.

        Args:
            wanted: tokens still to run.
            used: cells in use.
            all_rows: logits of every token are wanted, not only of the last.
        """
        covering = [shape for shape in self._shapes if shape.cells >= used]
        if all_rows:
            # A size with fewer rows than tokens would be run again for each group of rows.
            covering = [shape for shape in covering if shape.rows == shape.tokens] or covering
        return min(wanted, max(shape.tokens for shape in covering))

    def pick(self, tokens: int, rows: int, used: int, held: int) -> StepShape:
        """The size for one step.

        Args:
            tokens: to be run.
            rows: whose logits are wanted; where no size has as many, the one with the most.
            used: cells in use.
            held: the S that the cells are laid out for now.

        Raises:
            CapacityError: no size runs so many tokens while so many cells are in use.
        """
        fitting = [shape for shape in self._shapes if shape.cells >= used and shape.tokens >= tokens]
        if not fitting:
            most = max((shape.tokens for shape in self._shapes if shape.cells >= used), default=0)
            raise CapacityError(
                f"a step of {tokens} tokens with {used} cells in use is larger than any on offer "
                f"({most} tokens); run them in several steps"
            )
        T = min(shape.tokens for shape in fitting)
        choices = [shape for shape in fitting if shape.tokens == T]
        R = min((shape.rows for shape in choices if shape.rows >= rows), default=0)
        R = R or max(shape.rows for shape in choices)
        by_cells = {shape.cells: shape for shape in choices if shape.rows == R}
        smallest = min(by_cells)
        keep = held in by_cells and used > smallest - smallest // _SPARE_SHARE
        return by_cells[held if keep else smallest]

    def capacity_for(self, cells: int) -> int:
        """The smallest S that holds `cells`."""
        return min(size for size in self.capacities if size >= cells)
