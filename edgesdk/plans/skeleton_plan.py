"""The skeleton of an answer: sub-problems, which of them need which others, and how hard each is.

A node's parents come before it, so no plan has a circle. It knows nothing of how plans are made or run.

Paper: Adaptive Skeleton Graph Decoding (arXiv 2402.12280).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgesdk.decoding.option_types import whole_number, whole_text
from edgesdk.errors import UnsupportedOption, quoted

EASIEST, HARDEST = 1, 5
MOST_NODES = 64
"""More than anybody reads; each is a request of its own."""


@dataclass(frozen=True)
class PlanNode:
    """One sub-problem.

    Attributes:
        number: its place, from 1.
        task: what is to be answered.
        parents: numbers of the nodes whose answers it needs, all below its own, ascending.
        difficulty: 1 (easy) to 5 (hard).
    """

    number: int
    task: str
    parents: tuple[int, ...] = ()
    difficulty: int = 3

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the node.
        """
        number = whole_number("a node's number", self.number, 1, MOST_NODES)
        where = f"node {number}"
        task = " ".join(whole_text(f"the task of {where}", self.task).split())
        if not task:
            raise UnsupportedOption(f"{where} has no task, expected a text")
        parents = tuple(sorted({whole_number(f"a parent of {where}", p, 1) for p in self.parents}))
        if parents and parents[-1] >= number:
            raise UnsupportedOption(
                f"{where} has parent {parents[-1]}, expected numbers below its own: what it needs comes first"
            )
        difficulty = whole_number(f"the difficulty of {where}", self.difficulty, EASIEST, HARDEST)
        for name, value in (("number", number), ("task", task), ("parents", parents)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "difficulty", difficulty)


@dataclass(frozen=True)
class Plan:
    """Nodes in the order in which their answers are joined."""

    nodes: tuple[PlanNode, ...]

    def __post_init__(self) -> None:
        """Refuses a plan whose nodes are not numbered 1, 2, ...

        Raises:
            UnsupportedOption: naming the place.
        """
        nodes = tuple(self.nodes)
        if not 1 <= len(nodes) <= MOST_NODES:
            raise UnsupportedOption(f"the plan has {len(nodes)} nodes, expected 1 to {MOST_NODES}")
        for place, node in enumerate(nodes, 1):
            if not isinstance(node, PlanNode):
                raise UnsupportedOption(f"the plan holds {quoted(node)}, expected an edgesdk.PlanNode")
            if node.number != place:
                raise UnsupportedOption(f"node {node.number} stands at place {place}, expected 1, 2, 3, ...")
        object.__setattr__(self, "nodes", nodes)

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the nodes that may run at once: those without parents, those that need only them, ..."""
        level: dict[int, int] = {}
        for node in self.nodes:
            level[node.number] = 1 + max((level[parent] for parent in node.parents), default=-1)
        found = [[n for n, at in level.items() if at == depth] for depth in range(max(level.values()) + 1)]
        return tuple(map(tuple, found))

    @property
    def width(self) -> int:
        """Most nodes of a level."""
        return max(map(len, self.levels))

    def critical_path(self, cost: Mapping[int, float]) -> float:
        """The costliest chain of nodes that wait for each other.

        Args:
            cost: of each node, by its number.
        """
        ends: dict[int, float] = {}
        for node in self.nodes:
            ends[node.number] = cost[node.number] + max((ends[p] for p in node.parents), default=0.0)
        return max(ends.values())

    def without_edges(self) -> Plan:
        """The same nodes, none of which waits for another."""
        return Plan(tuple(PlanNode(n.number, n.task, (), n.difficulty) for n in self.nodes))

    def __str__(self) -> str:
        """One line a node, as `read_plan` reads them."""
        return "\n".join(
            f"{n.number} | {n.task} | {', '.join(map(str, n.parents)) or '-'} | {n.difficulty}"
            for n in self.nodes
        )
