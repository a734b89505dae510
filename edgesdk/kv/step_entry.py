"""What one sequence contributes to a step: tokens one after the other, and drafts that may follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgesdk.backends.protocol import Float, Int
from edgesdk.errors import CapacityError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.cell_pool import CellPool
from edgesdk.kv.draft_tree import DraftTree

Wanted = Literal["none", "last", "all"]


@dataclass(frozen=True, eq=False, slots=True)
class StepEntry:
    """What one sequence contributes to a step.

    Attributes:
        cells: the sequence.
        tokens: (n,) int32, n at least 1; they are kept.
        logits: of which of the tokens logits are wanted; not "none" with drafts.
        drafts: tokens that may follow the last one. Their logits are wanted, too; none of them is kept unless
            `StepRunner.keep` says so.
        stream: (n, E) what a segment reads in place of the tokens; None for a stack that reads tokens.
    """

    cells: CellList
    tokens: Int
    logits: Wanted = "last"
    drafts: DraftTree | None = None
    stream: Float | None = None

    @property
    def rows(self) -> int:
        """Tokens that it has run, drafts included."""
        return len(self.tokens) + (0 if self.drafts is None else len(self.drafts.tokens))

    @property
    def wanted(self) -> int:
        """How many rows of logits are wanted: the last ones of its rows."""
        if self.logits == "none":
            return 0
        return self.rows if self.logits == "all" else self.rows - len(self.tokens) + 1


def check_entries(entries: Sequence[StepEntry], pool: CellPool, context: int) -> tuple[int, int, int]:
    """Refuses what cannot be run.

    Args:
        entries: of one step.
        pool: that their sequences must belong to.
        context: most tokens of a sequence.

    Returns:
        Tokens, drafts included; wanted rows; and tokens to keep.

    Raises:
        CapacityError: tokens do not fit a sequence's context, or the cells that are free.
        ValueError: an entry has no tokens, a sequence of another pool or one that occurs twice, drafts
            without logits, or whose parents do not come before them.
    """
    total = wanted = kept = 0
    for entry in entries:
        cells, count = entry.cells, len(entry.tokens)
        if cells.closed or cells.pool is not pool:
            raise ValueError("an entry's sequence is closed, or belongs to another runner")
        if not count:
            raise ValueError("an entry needs at least one token, found none")
        longest = count
        kept += count
        if entry.drafts is not None:
            if entry.logits == "none":
                raise ValueError("drafts cannot be judged without logits")
            longest += int(entry.drafts.depths().max()) + 1
        if cells.length + longest > context:
            raise CapacityError(
                f"{longest} tokens after {cells.length} do not fit the context of {context} tokens; "
                "shorten the prompt or convert with a larger --context"
            )
        total += entry.rows
        wanted += entry.wanted
    if not total or (len(entries) > 1 and len({entry.cells.serial for entry in entries}) < len(entries)):
        raise ValueError("a step needs at least one entry, and one only for a sequence")
    if kept > pool.free:
        raise CapacityError(
            f"{kept} cells are needed, {pool.free} of {pool.capacity} are free; end or shorten other "
            "sequences"
        )
    return total, wanted, kept
