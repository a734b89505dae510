"""Prefixes of earlier sequences, kept for later ones: a radix tree over token ids that holds cells.

Whoever starts with the same tokens, run with the same gates, shares the cells; nothing is copied. Within
its budget the tree keeps what was used last, at the granularity of single tokens. It never gives up a cell
that a sequence holds too: that would free nothing. It knows nothing of text or requests.

(RadixAttention: SGLang, Efficient Execution of Structured Language Model Programs, section 3.)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.bundle.adapter_record import Gates
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.cell_pool import CellPool

_NONE = np.empty(0, np.int32)


class _Node:
    """The tokens between two branchings, and their cells."""

    __slots__ = ("cells", "children", "tokens", "used_at")

    def __init__(self, tokens: Int, cells: Int, used_at: int) -> None:
        self.tokens = tokens
        self.cells = cells
        self.used_at = used_at
        self.children: dict[int, _Node] = {}


class PrefixTree:
    """Holds the cells of prefixes."""

    def __init__(self, pool: CellPool, budget_bytes: int) -> None:
        """Starts empty.

        Args:
            pool: whose cells.
            budget_bytes: most bytes of cells to hold.
        """
        self._pool = pool
        self._most = budget_bytes // pool.bytes_per_cell
        self._roots: dict[Gates, _Node] = {}
        self._clock = 0
        pool.register(self)

    @property
    def cells_held(self) -> int:
        """Cells that it holds, alone or with sequences."""
        return sum(len(node.cells) for node in self._nodes())

    @property
    def nbytes(self) -> int:
        """Bytes of the cells that it holds."""
        return self.cells_held * self._pool.bytes_per_cell

    def held_cells(self) -> Int:
        """Every cell it holds: (n,) int32."""
        parts = [node.cells for node in self._nodes()]
        return np.concatenate(parts) if parts else _NONE

    def renumber(self, moved: Int) -> None:
        """Cell i is `moved[i]` from now on."""
        for node in self._nodes():
            node.cells = moved[node.cells]

    def match(self, tokens: Int, gates: Gates = ()) -> tuple[int, Int]:
        """Finds the longest prefix of `tokens` that it holds.

        Args:
            tokens: (n,) int32.
            gates: that they are to be run with.

        Returns:
            How many tokens, and their cells, (that many,) int32. Adopt them before anything else happens
            to the tree or the pool.
        """
        path, found = self._walk(tokens, gates)
        if not found:
            return 0, _NONE
        cells = np.concatenate([node.cells for node, _ in path])[:found]
        return found, cells

    def insert(self, cells: CellList) -> int:
        """Holds a sequence's cells, beside the sequence; of tokens it knows already it keeps its own.

        What was used longest ago gives way to the budget. What does not fit even so is left out from the
        end, and a sequence whose first cells have been freed (sliding windows) altogether.

        Returns:
            Cells held anew.
        """
        if cells.first or not cells.length:
            return 0
        tokens, held = cells.tokens, cells.cells
        path, found = self._walk(tokens, cells.gates)
        new = cells.length - found
        if not new:
            return 0
        last, matched = path[-1] if path else (self._roots.setdefault(cells.gates, _Node(_NONE, _NONE, 0)), 0)
        self._pool.begin()
        excess = self.cells_held + new - self._most
        if excess > 0:
            new -= max(0, excess - self._give_up(excess, (last, matched)))
        if new > 0:
            if matched < len(last.tokens):
                self._split(last, matched)
            end = found + new
            node = _Node(tokens[found:end].copy(), held[found:end].copy(), self._clock)
            self._pool.share(node.cells)
            last.children[node.tokens.item(0)] = node
        self._pool.end()
        return max(new, 0)

    def evict(self, cells_needed: int) -> int:
        """Frees cells, those used longest ago first, that no sequence holds.

        Returns:
            How many are free now that were not before; fewer than asked for when there are no more.
        """
        self._pool.begin()
        freed = self._give_up(cells_needed)
        self._pool.end()
        return freed

    def clear(self) -> None:
        """Lets go of everything, shared or not."""
        self._pool.begin()
        cells = self.held_cells()
        self._roots = {}
        self._pool.release(cells)
        self._pool.end()

    def _walk(self, tokens: Int, gates: Gates) -> tuple[list[tuple[_Node, int]], int]:
        """Follows `tokens` as far as the tree goes, which counts as use.

        Returns:
            The nodes on the way, each with how many of its tokens match, and the sum.
        """
        self._clock += 1
        path: list[tuple[_Node, int]] = []
        node, found = self._roots.get(gates), 0
        while node is not None and found < len(tokens):
            child = node.children.get(int(tokens[found]))
            if child is None:
                break
            count = _common(child.tokens, tokens[found:])
            child.used_at = self._clock
            path.append((child, count))
            found += count
            if count < len(child.tokens):
                break
            node = child
        return path, found

    def _split(self, node: _Node, at: int) -> None:
        """Cuts a node in two; the object stays the upper part."""
        lower = _Node(node.tokens[at:], node.cells[at:], node.used_at)
        lower.children = node.children
        # Never a cell twice, should an interrupt strike in between; what is lost then is counted anew.
        node.children = {}
        node.cells = node.cells[:at]
        node.tokens = node.tokens[:at]
        node.children = {lower.tokens.item(0): lower}

    def _give_up(self, count: int, keep: tuple[_Node, int] | None = None) -> int:
        """Releases cells that nobody else holds, from the ends of the tree.

        Args:
            count: most to release.
            keep: a node and how many of its tokens stay in any case.

        Returns:
            How many were released.
        """
        parents: dict[_Node, _Node] = {}
        for node in (*self._roots.values(), *self._nodes()):
            parents.update(dict.fromkeys(node.children.values(), node))
        leaves = [(node.used_at, index, node) for index, node in enumerate(parents) if not node.children]
        heapq.heapify(leaves)
        given = 0
        while leaves and given < count:
            _, index, leaf = heapq.heappop(leaves)
            end = len(leaf.cells)
            stay = max(self._pool.shared(leaf.cells), end - (count - given))
            if keep is not None and leaf is keep[0]:
                stay = max(stay, keep[1])
            released = leaf.cells[stay:]
            if stay:
                leaf.cells = leaf.cells[:stay]
                leaf.tokens = leaf.tokens[:stay]
            else:
                parent = parents[leaf]
                del parent.children[leaf.tokens.item(0)]
                if not parent.children and len(parent.tokens):
                    heapq.heappush(leaves, (parent.used_at, index, parent))
            self._pool.release(released)
            given += end - stay
        kept = None if keep is None else keep[0]
        self._roots = {gates: r for gates, r in self._roots.items() if r.children or r is kept}
        return given

    def _nodes(self) -> Iterator[_Node]:
        """Every node but the roots, which hold no tokens."""
        waiting = [node for root in self._roots.values() for node in root.children.values()]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())


def _common(a: Int, b: Int) -> int:
    """How many tokens two sequences have in common at their start."""
    count = min(len(a), len(b))
    different = np.flatnonzero(a[:count] != b[:count])
    return int(different[0]) if len(different) else count
