"""Cells of the branches: where they come from, which are found in the prefix cache, who gives way.

The prefix cache holds cells that nobody runs on any more; it gives them up before any branch is
preempted.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgesdk.engine.branch import Branch
from edgesdk.errors import CapacityError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.prefix_tree import PrefixTree
from edgesdk.kv.step_runner import StepRunner


class CellRoom:
    """Gives cells to branches and takes them back."""

    def __init__(self, runner: StepRunner, prefix_bytes: int) -> None:
        """Starts with an empty prefix cache.

        Args:
            runner: whose cells.
            prefix_bytes: most bytes that the prefix cache holds; 0 for none.
        """
        self._runner = runner
        self._tree = PrefixTree(runner.pool, prefix_bytes) if prefix_bytes else None
        self.hits = 0
        """How often a branch found a part of its prompt."""
        self.hit_tokens = 0
        """Prompt tokens found."""

    @property
    def free(self) -> int:
        """Cells without holder."""
        return self._runner.pool.free

    @property
    def used(self) -> int:
        """Cells with a holder."""
        return self._runner.pool.used

    @property
    def cached(self) -> int:
        """Cells that the prefix cache holds."""
        return 0 if self._tree is None else self._tree.cells_held

    def make_room(self, cells: int) -> bool:
        """Has the prefix cache give up what it takes for so many free cells; whether there are."""
        short = cells - self.free
        if short > 0 and self._tree is not None:
            self._tree.evict(short)
        return self.free >= cells

    def open(self, branch: Branch) -> None:
        """Gives a branch without cells a list of its own, with what the prefix cache has of its tokens."""
        cells = self._runner.new_list(branch.gates)
        branch.cells = cells
        if self._tree is None:
            return
        # The last token is always run: its logits are what the branch waits for.
        count, found = self._tree.match(branch.tokens[:-1], branch.gates)
        if count:
            cells.adopt(branch.tokens[:count], found)

    def count_hit(self, branch: Branch) -> None:
        """Notes that a branch started with the cells that it has."""
        if branch.length:
            self.hits += 1
            self.hit_tokens += branch.length

    def remember(self, cells: CellList) -> None:
        """Puts a sequence into the prefix cache; its owner keeps it, too."""
        if self._tree is not None and cells.length:
            self._tree.insert(cells)

    def release(self, branch: Branch) -> None:
        """Takes the cells of a branch."""
        if branch.cells is not None:
            branch.cells.close()
            branch.cells = None

    def clear(self) -> None:
        """Empties the prefix cache."""
        if self._tree is not None:
            self._tree.clear()

    def check(self, lists: Iterable[CellList]) -> None:
        """Checks that every cell's holders are counted, and none is lost.

        Args:
            lists: every list that is in use outside the prefix cache.

        Raises:
            ValueError: the accounts do not agree.
        """
        holders: list[CellList | PrefixTree] = list(lists)
        if self._tree is not None:
            holders.append(self._tree)
        self._runner.pool.check(holders)


def shorten(cells: CellList, length: int) -> None:
    """Keeps at most `length` tokens; none, if cells that would be seen have left every layer's window."""
    try:
        cells.truncate(min(cells.length, length))
    except CapacityError:
        cells.truncate(0)
