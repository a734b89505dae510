"""Drafted tokens behind those of a step's entry: run with them, kept only on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Int


@dataclass(frozen=True, eq=False, slots=True)
class DraftTree:
    """Tokens that may follow those of an entry.

    Attributes:
        tokens: (n,) int32, n at least 1.
        parents: (n,) int32, for each the index of the drafted token that it follows, which comes before it;
            -1 for those that follow the entry's last token.
        streams: (n,) int32, the numbers of rows that are streams of the row that they follow, from 1 on, 0
            for tokens; None where all are tokens. They are never kept.
    """

    tokens: Int
    parents: Int
    streams: Int | None = None

    @property
    def is_chain(self) -> bool:
        """Whether each token follows the one before it."""
        return bool((self.parents == np.arange(-1, len(self.parents) - 1)).all())

    def depths(self) -> Int:
        """How many drafted tokens come before each of them: (n,) int32.

        Raises:
            ValueError: the parents are not as many as the tokens, or do not come before their children.
        """
        parents = self.parents
        if not len(self.tokens) or len(parents) != len(self.tokens):
            raise ValueError(f"{len(self.tokens)} drafted tokens have {len(parents)} parents")
        depths = np.zeros(len(parents), np.int32)
        for row, parent in enumerate(parents.tolist()):
            if not -1 <= parent < row:
                raise ValueError(f"draft {row} follows draft {parent}, expected one before it or -1")
            if parent >= 0:
                depths[row] = depths[parent] + 1
        return depths

    def after(self, count: int) -> tuple[Int | None, Int | None]:
        """Parents and depths of an entry's rows, where `count` tokens come before the drafts.

        Returns:
            Both (count + n,) int32, or None where every row follows the one before it: a chain is a piece of
            text like any other.

        Raises:
            ValueError: as `depths`.
        """
        depths = self.depths()
        if self.is_chain:
            return None, None
        before = np.arange(-1, count - 1, dtype=np.int32)
        parents = np.where(self.parents < 0, count - 1, self.parents + count).astype(np.int32)
        return np.concatenate([before, parents]), np.concatenate([before + 1, depths + count])

    def check_path(self, rows: Sequence[int] | Int) -> None:
        """Refuses rows that are no path.

        Args:
            rows: indices into the tokens; the first follows the entry's last token, each other the one before
                it.

        Raises:
            ValueError: they do not.
        """
        before = -1
        for row in rows:
            odd = not 0 <= row < len(self.tokens) or int(self.parents[row]) != before
            if odd or (self.streams is not None and self.streams[row]):
                raise ValueError(f"rows {[int(row) for row in rows]} are no path from the root of the drafts")
            before = int(row)
