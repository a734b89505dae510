"""What one step of the engine runs, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WorkKind = Literal["decode", "prefill"]


@dataclass(frozen=True)
class PlannedWork:
    """Tokens of one branch that a step runs.

    Attributes:
        branch_id: whose tokens.
        start: the first of them, counted from the branch's first token.
        count: how many.
        kind: `decode` for a branch that has begun to answer, else `prefill`.
        drafts: how many drafted tokens the step judges after them.
    """

    branch_id: int
    start: int
    count: int
    kind: WorkKind
    drafts: int = 0


@dataclass(frozen=True)
class StepPlan:
    """One step.

    Attributes:
        work: at most one entry a branch, decodes first.
        preempted: branches whose cells were taken; they wait to be computed again.
        admitted: branches that left the queue with this step.
        refused: branches that can never run, because others hold the cells without giving them back.
        spare: tokens that the step may run beside these, within the budget: drafts.
    """

    work: tuple[PlannedWork, ...]
    preempted: tuple[int, ...] = ()
    admitted: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    spare: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that the step runs, without drafts."""
        return sum(work.count for work in self.work)

    @property
    def drafts(self) -> int:
        """Drafted tokens that it judges."""
        return sum(work.drafts for work in self.work)
