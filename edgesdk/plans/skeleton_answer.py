"""What comes of an answer by its skeleton: the parts in order, the plan, and when what ran."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.decoding.stopping import FinishReason
from edgesdk.plans.skeleton_plan import Plan, PlanNode


@dataclass(frozen=True)
class NodeAnswer:
    """The answer to one node. Times are seconds since the call.

    Attributes:
        node: what was answered.
        text: empty where `error` says why there is none.
        by: what answered: the name of the bundle and its recipe.
        finish_reason: of the request; None where that failed.
        error: why there is no answer, or why it is not whole; None where it is.
        missing: parents that have no answer, which the node went without.
        ready_s: when its parents were there.
        first_s: when its first token came; None before that.
        ended_s: when it was complete.
        prompt_tokens: of its prompt.
        cached_tokens: those of them that were shared and not run.
        new_tokens: that were chosen.
    """

    node: PlanNode
    text: str
    by: str
    finish_reason: FinishReason | None
    error: str | None
    missing: tuple[int, ...]
    ready_s: float
    first_s: float | None
    ended_s: float
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class SkeletonAnswer:
    """An answer that was written by its skeleton.

    Attributes:
        text: the nodes' answers in order, or the plain answer.
        plan: what was answered; None where a plain answer took its place.
        nodes: one for each node of the plan.
        fallback: why it was answered plainly; None where it was not.
        finish_reason: of the plain answer; None where there is a plan.
        plan_text: what the planner wrote; empty where the plan was given.
        plan_s: seconds until the plan was complete, or until it was given up; 0 where it was given.
        plan_tokens: tokens of the plan that were chosen.
        wall_s: seconds from the call to the end.
    """

    text: str
    plan: Plan | None
    nodes: tuple[NodeAnswer, ...]
    fallback: str | None
    finish_reason: FinishReason | None
    plan_text: str
    plan_s: float
    plan_tokens: int
    wall_s: float

    @property
    def complete(self) -> bool:
        """Whether every node has a whole answer."""
        return all(node.error is None for node in self.nodes)


@dataclass(frozen=True)
class SkeletonChunk:
    """A piece of the joined answer, in the order in which it is read.

    Attributes:
        text: may be empty.
        node: which node it belongs to; None for a plain answer.
        withdrawn: what came before is no part of the answer: the plan broke after a node had begun, and a
            plain answer follows.
        answer: the whole, with the last piece only.
    """

    text: str
    node: int | None = None
    withdrawn: bool = False
    answer: SkeletonAnswer | None = None
