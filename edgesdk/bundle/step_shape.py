"""One size of a step: how many new tokens, cells and rows, of which stack, and under which name in a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAIN = "main"
"""The stack that every variant has: the model itself."""

FEW = 16
"""Most new tokens of a step that decodes, for one sequence or several, or judges drafts."""


@dataclass(frozen=True, order=True)
class StepShape:
    """One static size of the step graph.

    Attributes:
        tokens: T.
        cells: S.
        rows: R.
        signature: name of the signature inside the variant's file, or of the file itself.
        stack: which entry into the weights it runs. Whatever wraps a backend takes sizes as keys, so that
            every stack comes through.
    """

    tokens: int
    cells: int
    rows: int
    signature: str
    stack: str = MAIN

    @property
    def decodes(self) -> bool:
        """Whether it gives sequences their next tokens or judges drafts: it does not read a prompt."""
        return self.rows == self.tokens <= FEW


def smallest_step(shapes: Iterable[StepShape]) -> StepShape:
    """The smallest size of the model itself."""
    return min(shape for shape in shapes if shape.stack == MAIN)
