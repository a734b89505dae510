"""Reads a plan, line by line as it is written: `number | sub-problem | parents | difficulty`.

Parents are numbers with commas, or `-`. A line is a node as soon as it ends, so that a node may run while
the rest of the plan is still being written. Whatever breaks the form is an error that says where: nothing
is guessed, a broken plan is answered without one.
"""

from __future__ import annotations

import re

from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.plans.skeleton_plan import MOST_NODES, Plan, PlanNode

_LINE = re.compile(r"\s*(\d{1,3})\s*\|([^|]*)\|\s*(-|\d{1,3}(?:\s*,\s*\d{1,3})*)\s*\|\s*(\d)\s*")
_LONGEST_LINE = 2_000


class PlanReader:
    """Takes text in pieces and gives nodes."""

    def __init__(self) -> None:
        """Starts with no text."""
        self._rest = ""
        self._nodes: list[PlanNode] = []

    @property
    def nodes(self) -> tuple[PlanNode, ...]:
        """Those that are complete."""
        return tuple(self._nodes)

    def feed(self, text: str) -> list[PlanNode]:
        """Takes a piece of text and returns the nodes whose lines it completes.

        Raises:
            UnsupportedOption: a line is no node, or is none that may come next.
        """
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > _LONGEST_LINE:
            raise UnsupportedOption(f"a line of the plan has more than {_LONGEST_LINE} characters")
        return [node for line in lines if line.strip() for node in [self._read(line)]]

    def end(self) -> list[PlanNode]:
        """Takes the end of the text for the end of the last line; returns the node of it, if there is one.

        Raises:
            UnsupportedOption: as `feed`, or the plan has no nodes.
        """
        found = self.feed("\n")
        if not self._nodes:
            raise UnsupportedOption("the plan is empty, expected: number | sub-problem | parents | 1 to 5")
        return found

    def _read(self, line: str) -> PlanNode:
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise UnsupportedOption(
                f"line {len(self._nodes) + 1} of the plan is {quoted(line)}, "
                "expected: number | sub-problem | parents or - | difficulty 1 to 5"
            )
        number, task, parents, difficulty = matched.groups()
        place = len(self._nodes) + 1
        if int(number) != place or place > MOST_NODES:
            raise UnsupportedOption(f"the plan has node {number} at place {place}, expected 1, 2, 3, ...")
        named = () if parents == "-" else tuple(int(each) for each in parents.split(","))
        node = PlanNode(place, task, named, int(difficulty))
        self._nodes.append(node)
        return node


def read_plan(text: str) -> Plan:
    """A whole plan.

    Args:
        text: one line a node; empty lines mean nothing.

    Raises:
        UnsupportedOption: it is none; the message names the line.
    """
    reader = PlanReader()
    reader.feed(text)
    reader.end()
    return Plan(reader.nodes)
