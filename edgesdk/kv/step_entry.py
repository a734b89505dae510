"""What one sequence contributes to a step: tokens one after the other, or a tree of drafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.kv.cell_list import CellList

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
