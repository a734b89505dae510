"""Which nodes wait, run and have ended, and the answer as it is read: in the plan's order.

It knows nothing of engines or time: what is ready is asked, what came is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgesdk.plans.skeleton_answer import NodeAnswer
from edgesdk.plans.skeleton_plan import PlanNode

SEPARATOR = "\n\n"
"""Between the answers of two nodes."""


class NodeBoard:
    """The nodes of one plan, which may still grow."""

    def __init__(self, *, edges: bool) -> None:
        """Starts without nodes.

        Args:
            edges: whether nodes wait for their parents and see their answers.
        """
        self._edges = edges
        self._nodes: dict[int, PlanNode] = {}
        self._running: set[int] = set()
        self._answers: dict[int, NodeAnswer] = {}
        self._pieces: dict[int, str] = {}
        self._reading = 1
        self._shown = 0
        self._begun = False

    @property
    def nodes(self) -> tuple[PlanNode, ...]:
        """In order."""
        return tuple(self._nodes.values())

    @property
    def answers(self) -> Mapping[int, NodeAnswer]:
        """Of the nodes that have ended."""
        return self._answers

    @property
    def running(self) -> frozenset[int]:
        """Nodes that were started and have not ended."""
        return frozenset(self._running)

    @property
    def done(self) -> bool:
        """Whether every node has ended."""
        return len(self._answers) == len(self._nodes)

    def add(self, node: PlanNode) -> None:
        """Adds the next node."""
        self._nodes[node.number] = node

    def parents(self, node: PlanNode) -> tuple[int, ...]:
        """What a node waits for."""
        return node.parents if self._edges else ()

    def ready(self) -> list[PlanNode]:
        """Nodes that wait for nothing any more, in order."""
        return [
            node
            for node in self._nodes.values()
            if node.number not in self._running
            and node.number not in self._answers
            and all(parent in self._answers for parent in self.parents(node))
        ]

    def known(self, node: PlanNode) -> dict[int, str]:
        """The answers that a node sees: those of its parents that have one."""
        texts = {parent: self._answers[parent].text for parent in self.parents(node)}
        return {parent: text for parent, text in texts.items() if text}

    def missing(self, node: PlanNode) -> tuple[int, ...]:
        """Parents that have no answer."""
        return tuple(parent for parent in self.parents(node) if not self._answers[parent].text)

    def start(self, node: PlanNode) -> None:
        """Notes that a node runs."""
        self._running.add(node.number)

    def piece(self, number: int, text: str) -> None:
        """Notes a piece of a node's answer."""
        self._pieces[number] = self._pieces.get(number, "") + text

    def end(self, answer: NodeAnswer) -> None:
        """Notes the end of a node, whether it ran or not."""
        number = answer.node.number
        self._running.discard(number)
        self._answers[number] = answer
        self._pieces[number] = answer.text

    def read(self) -> Iterator[tuple[int, str]]:
        """What can be read now and was not before: of the first node that has not ended, and those before."""
        while self._reading in self._nodes:
            number = self._reading
            ended = number in self._answers
            # What follows decides whether a space at the end is one between words or the end.
            text = self._pieces.get(number, "").lstrip()
            text = text.strip() if ended else text.rstrip()
            new = text[self._shown :]
            if new:
                if self._shown == 0 and self._begun:
                    new = SEPARATOR + new
                self._begun = True
                self._shown = len(text)
                yield number, new
            if not ended:
                return
            self._reading, self._shown = number + 1, 0

    @property
    def text(self) -> str:
        """The answers in order, as they are read."""
        texts = [self._answers[n].text.strip() for n in self._nodes if n in self._answers]
        return SEPARATOR.join(text for text in texts if text)
