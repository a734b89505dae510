"""What one sequence contributes to a step: tokens one after the other, or a tree of drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.errors import CapacityError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.cell_pool import CellPool

Wanted = Literal["none", "last", "all"]


@dataclass(frozen=True, eq=False, slots=True)
class StepEntry:
    """What one sequence contributes to a step.

    Attributes:
        cells: the sequence.
        tokens: (n,) int32, n at least 1.
        logits: of which of the tokens logits are wanted.
        parents: (n,) int32, for drafts that form a tree: for each token the index of the token of this
            entry that it follows, -1 for those that follow the sequence. Such tokens are not kept, unless
            `StepRunner.keep` says which. None for tokens one after the other, all of which are kept.
    """

    cells: CellList
    tokens: Int
    logits: Wanted = "last"
    parents: Int | None = None

    def depths(self) -> Int:
        """How many of the entry's tokens come before each of them: (n,) int32.

        Raises:
            ValueError: the parents are not as many as the tokens, or do not come before their children.
        """
        parents = self.parents
        if parents is None:
            return np.arange(len(self.tokens), dtype=np.int32)
        if len(parents) != len(self.tokens):
            raise ValueError(f"{len(self.tokens)} tokens have {len(parents)} parents")
        depths = np.zeros(len(parents), np.int32)
        for row, parent in enumerate(parents.tolist()):
            if not -1 <= parent < row:
                raise ValueError(f"draft {row} follows draft {parent}, expected one before it or -1")
            depths[row] = depths[parent] + 1 if parent >= 0 else 0
        return depths

    @property
    def wanted(self) -> int:
        """How many rows of logits are wanted."""
        return 0 if self.logits == "none" else 1 if self.logits == "last" else len(self.tokens)


def check_entries(entries: Sequence[StepEntry], pool: CellPool, context: int) -> tuple[int, int, int]:
    """Refuses what cannot be run.

    Args:
        entries: of one step.
        pool: that their sequences must belong to.
        context: most tokens of a sequence.

    Returns:
        Tokens, wanted rows, and tokens to keep.

    Raises:
        CapacityError: tokens do not fit a sequence's context, or the cells that are free.
        ValueError: an entry has no tokens, a sequence of another pool or one that occurs twice, or parents
            that do not come before their children.
    """
    total = wanted = kept = 0
    for entry in entries:
        cells, count = entry.cells, len(entry.tokens)
        if cells.closed or cells.pool is not pool:
            raise ValueError("an entry's sequence is closed, or belongs to another runner")
        if not count:
            raise ValueError("an entry needs at least one token, found none")
        longest = count
        if entry.parents is None:
            kept += count
        else:
            longest = int(entry.depths().max()) + 1
        if cells.length + longest > context:
            raise CapacityError(
                f"{longest} tokens after {cells.length} do not fit the context of {context} tokens; "
                "shorten the prompt or convert with a larger --context"
            )
        total += count
        wanted += entry.wanted
    if not total or (len(entries) > 1 and len({entry.cells.serial for entry in entries}) < len(entries)):
        raise ValueError("a step needs at least one entry, and one only for a sequence")
    if kept > pool.free:
        raise CapacityError(
            f"{kept} cells are needed, {pool.free} of {pool.capacity} are free; end or shorten other "
            "sequences"
        )
    return total, wanted, kept
