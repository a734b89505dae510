"""Drafts of the last step with their keys and values, until some are kept or another step runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edgesdk.backends.protocol import Cells
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.draft_tree import DraftTree
from edgesdk.kv.step_entry import StepEntry


class Judged(NamedTuple):
    """Drafts of one sequence.

    Attributes:
        drafts: what may be kept.
        kv: their keys and values; the backend's own arrays in a turn of the caller's, else a copy.
        length: of the sequence before any is kept.
        copied: whether it is a copy.
    """

    drafts: DraftTree
    kv: Cells
    length: int
    copied: bool


class HeldDrafts:
    """Those of all sequences of a step."""

    def __init__(self) -> None:
        """Holds none."""
        self._of: dict[int, Judged] = {}

    def hold(self, kv_new: Cells, entries: Sequence[StepEntry], *, copy: bool) -> None:
        """Remembers what may be kept of a step.

        Args:
            kv_new: new keys and values of its rows.
            entries: of the step, whose tokens belong to their sequences by now.
            copy: take copies, not views.
        """
        first = 0
        for entry in entries:
            end = first + entry.rows
            if entry.drafts is not None:
                kv = kv_new.take(slice(first + len(entry.tokens), end))
                kept = kv.copy() if copy else kv
                self._of[entry.cells.serial] = Judged(entry.drafts, kept, entry.cells.length, copy)
            first = end

    def of(self, cells: CellList, *, mine: bool) -> Judged:
        """The drafts of a sequence.

        Args:
            cells: the sequence.
            mine: whether the turn is still the caller's, so that the backend's arrays are as they were.

        Raises:
            ValueError: it has none from the last step, or has changed since.
        """
        judged = self._of.get(cells.serial)
        if judged is None or judged.length != cells.length or not (judged.copied or mine):
            raise ValueError("the sequence has no drafts from the last step")
        return judged

    def drop(self, cells: CellList) -> None:
        """Forgets those of a sequence."""
        del self._of[cells.serial]

    def clear(self) -> None:
        """Forgets all."""
        self._of.clear()
