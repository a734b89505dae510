"""Which tokens the next step runs: Sarathi-Serve's stall-free batching over a static token budget.

Every step takes one token of every branch that is decoding, then pieces of prompts that have begun,
then branches from the queue while cells, seats and budget allow. A branch without a free cell to grow
into takes those of the branch that ranks last, which is computed again later.

Rank is one number that never changes: the step of arrival, less a head start for priority. So the
order of any two branches is fixed, the first in rank always advances, and nobody waits for ever: later
arrivals, whatever their priority, rank behind at last.

Integers only: it knows nothing of models, tokens' values or clocks. Which cells are free it is told,
and the cells of a preempted branch it has released by a function of the caller's.

Paper: Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve (section 4.2, algorithm 3);
`Policy.chunked` and `Policy.hybrid` switch its two parts off, as its ablation (section 5.4) does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from edgesdk.engine.step_plan import PlannedWork, StepPlan

_SPARE_CELLS = 8
"""Cells kept for each running branch when another is admitted: else the next steps preempt it again."""


@dataclass(frozen=True)
class Policy:
    """How steps are filled.

    Attributes:
        budget: most tokens of a step in which something decodes (tau in the paper).
        seats: most branches that run at once; at most `budget`.
        idle_budget: most tokens of a step in which nothing decodes, when nobody waits for a token.
        chunked: prompts run in pieces that fit the budget; else each runs whole, whatever it takes.
        hybrid: prompts and decodes share steps; else steps alternate between them.
        head_start_steps: what one unit of priority is worth, in steps of waiting.
    """

    budget: int
    seats: int
    idle_budget: int
    chunked: bool = True
    hybrid: bool = True
    head_start_steps: int = 256


@dataclass
class _Branch:
    """One sequence as the scheduler sees it: `done` of its `known` tokens have been run."""

    branch_id: int
    rank: tuple[int, int]
    known: int
    width: int
    done: int = 0
    decoding: bool = False

    @property
    def pending(self) -> int:
        return self.known - self.done


@dataclass
class _OpenPlan:
    """A plan that still takes work."""

    free: int
    budget: int
    counts: dict[int, int] = field(default_factory=dict)
    preempted: list[int] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def take(self, branch: _Branch, count: int) -> None:
        self.counts[branch.branch_id] = self.counts.get(branch.branch_id, 0) + count
        self.free -= count
        self.budget -= count


class Scheduler:
    """Holds what is to be run and plans one step after the other."""

    def __init__(self, policy: Policy) -> None:
        """Starts with nothing to run."""
        if not 1 <= policy.seats <= policy.budget <= policy.idle_budget:
            raise ValueError(f"seats, budget and idle budget must ascend from 1: {policy}")
        self._policy = policy
        self._running: dict[int, _Branch] = {}
        self._waiting: dict[int, _Branch] = {}
        self._steps = 0
        self._prefilled_last = False

    @property
    def policy(self) -> Policy:
        """How steps are filled."""
        return self._policy

    @property
    def running(self) -> int:
        """Branches that hold a seat."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Branches in the queue."""
        return len(self._waiting)

    def add(self, branch_id: int, known: int, *, priority: int = 0, width: int = 1) -> None:
        """Queues a branch.

        Args:
            branch_id: new.
            known: its tokens, all to be run.
            priority: higher goes first.
            width: seats that it will take once its prompt has run.
        """
        rank = (self._steps - priority * self._policy.head_start_steps, branch_id)
        self._waiting[branch_id] = _Branch(branch_id, rank, known, width)

    def fork(self, branch_id: int, copy_id: int) -> None:
        """Adds a running copy of a running branch, in one of the seats that its width reserved."""
        origin = self._running[branch_id]
        origin.width = max(1, origin.width - 1)
        rank = (origin.rank[0], copy_id)
        self._running[copy_id] = _Branch(copy_id, rank, origin.known, 1, origin.done, origin.decoding)

    def grow(self, branch_id: int, count: int) -> None:
        """Notes `count` chosen tokens of a running branch, to be run; from now on it decodes."""
        branch = self._running[branch_id]
        branch.known += count
        branch.decoding = True

    def remove(self, branch_id: int) -> None:
        """Forgets a branch, wherever it is."""
        self._running.pop(branch_id, None)
        self._waiting.pop(branch_id, None)

    def reuse(self, branch_id: int, done: int) -> None:
        """Notes how many tokens of a queued branch have cells already."""
        self._waiting[branch_id].done = done

    def candidates(self) -> list[int]:
        """Queued branches that have a seat if cells and budget allow, in order."""
        seats = self._policy.seats - self._seats_taken()
        found = []
        for branch in sorted(self._waiting.values(), key=_rank):
            seats -= branch.width
            if seats < 0:
                break
            found.append(branch.branch_id)
        return found

    def cells_wanted(self) -> int:
        """Free cells that the running branches can use in the next step."""
        return min(self._step_budget(), sum(branch.pending for branch in self._running.values()))

    def cells_to_admit(self, branch_id: int) -> int:
        """Free cells that there must be for a queued branch to leave the queue."""
        reserved = sum(max(branch.pending, _SPARE_CELLS) for branch in self._running.values())
        return reserved + self._waiting[branch_id].pending

    def plan(self, free: int, preempt: Callable[[int], int]) -> StepPlan:
        """Plans the next step; queue and seats change now, `done` with `ran`.

        Args:
            free: cells without holder.
            preempt: releases the cells of a branch and returns how many are free then.
        """
        self._steps += 1
        plan = _OpenPlan(free, self._step_budget())
        decodes, prefills = self._kinds_of_this_step()
        if decodes:
            self._plan_decodes(plan, preempt)
        if prefills:
            self._plan_pieces(plan)
            if not plan.preempted:
                self._admit(plan)
        if not decodes and not plan.counts:
            self._plan_decodes(plan, preempt)
        if not plan.counts:
            self._break_deadlock(plan, preempt)
        work = tuple(
            PlannedWork(b.branch_id, b.done, plan.counts[b.branch_id], "decode" if b.decoding else "prefill")
            for b in sorted(self._running.values(), key=lambda b: (not b.decoding, b.rank))
            if b.branch_id in plan.counts
        )
        self._prefilled_last = any(entry.kind == "prefill" for entry in work)
        spare = max(plan.budget, 0)
        return StepPlan(work, tuple(plan.preempted), tuple(plan.admitted), tuple(plan.refused), spare)

    def keep(self, branch_id: int, count: int) -> None:
        """Notes `count` drafted tokens of a running branch that have been run and kept; before `grow`."""
        self._running[branch_id].done += count

    def ran(self, plan: StepPlan) -> None:
        """Notes that a plan's tokens have been run."""
        for work in plan.work:
            if work.branch_id in self._running:
                self._running[work.branch_id].done += work.count

    def _kinds_of_this_step(self) -> tuple[bool, bool]:
        """Whether it may decode, and whether it may prefill."""
        if self._policy.hybrid:
            return True, True
        decoding = any(branch.decoding for branch in self._running.values())
        prefilling = any(not branch.decoding for branch in self._running.values())
        if not decoding:
            return True, True
        turn = not self._prefilled_last and (prefilling or bool(self.candidates()))
        return not turn, turn

    def _step_budget(self) -> int:
        decoding = any(branch.decoding for branch in self._running.values())
        return self._policy.budget if decoding else self._policy.idle_budget

    def _seats_taken(self) -> int:
        return sum(branch.width for branch in self._running.values())

    def _plan_decodes(self, plan: _OpenPlan, preempt: Callable[[int], int]) -> None:
        for branch in sorted((b for b in self._running.values() if b.decoding), key=_rank):
            if branch.branch_id not in self._running:
                continue  # preempted for one before it
            while plan.free < 1 and len(self._running) > 1:
                victim = max(self._running.values(), key=_rank)
                self._preempt(victim, plan, preempt)
                if victim is branch:
                    break
            if branch.branch_id not in self._running:
                continue
            if plan.free < 1:
                self._refuse(branch, plan)
                continue
            plan.take(branch, 1)

    def _plan_pieces(self, plan: _OpenPlan) -> None:
        """Prompts that have begun, and tokens that a decoding branch has beyond its one."""
        for branch in sorted(self._running.values(), key=_rank):
            if branch.decoding and branch.branch_id not in plan.counts:
                continue
            left = branch.pending - plan.counts.get(branch.branch_id, 0)
            count = self._piece(left, plan, whole=not self._policy.chunked and not branch.decoding)
            if count > 0:
                plan.take(branch, count)

    def _piece(self, left: int, plan: _OpenPlan, *, whole: bool) -> int:
        if whole:
            return left if left <= plan.free else 0
        return min(left, plan.budget, plan.free)

    def _break_deadlock(self, plan: _OpenPlan, preempt: Callable[[int], int]) -> None:
        """Prompts have taken all cells and none is complete: the last in rank give theirs back."""
        while self._running and not plan.counts:
            first = min(self._running.values(), key=_rank)
            if len(self._running) == 1:
                self._refuse(first, plan)
                return
            self._preempt(max(self._running.values(), key=_rank), plan, preempt)
            self._plan_pieces(plan)

    def _admit(self, plan: _OpenPlan) -> None:
        for branch_id in self.candidates():
            branch = self._waiting[branch_id]
            planned = sum(plan.counts.values())
            # `cells_to_admit` counts from before the step; what is planned is gone from `free` by now.
            enough = plan.free + planned >= self.cells_to_admit(branch_id)
            if not self._running and not enough and branch.pending > plan.free:
                self._refuse(branch, plan)
                continue
            if self._running and not enough:
                break
            count = self._piece(branch.pending, plan, whole=not self._policy.chunked)
            if count < 1:
                break
            del self._waiting[branch_id]
            self._running[branch_id] = branch
            plan.admitted.append(branch_id)
            plan.take(branch, count)

    def _preempt(self, branch: _Branch, plan: _OpenPlan, preempt: Callable[[int], int]) -> None:
        del self._running[branch.branch_id]
        branch.done = 0
        branch.decoding = False
        self._waiting[branch.branch_id] = branch
        planned = sum(plan.counts.values())
        plan.free = preempt(branch.branch_id) - planned
        plan.preempted.append(branch.branch_id)

    def _refuse(self, branch: _Branch, plan: _OpenPlan) -> None:
        self.remove(branch.branch_id)
        plan.refused.append(branch.branch_id)


def share_drafts(plan: StepPlan, offered: Mapping[int, int], most: int) -> StepPlan:
    """Gives drafts what a plan leaves, in equal parts as far as they have use for it.

    Args:
        plan: of the step.
        offered: drafted tokens by branch.
        most: that the step can judge, by its rows and by the free cells that its own tokens leave.
    """
    left = min(plan.spare, most)
    given = dict.fromkeys((work.branch_id for work in plan.work if offered.get(work.branch_id)), 0)
    asking = list(given)
    while left > 0 and asking:
        for branch_id in asking[:left]:
            given[branch_id] += 1
            left -= 1
        asking = [branch_id for branch_id in asking if given[branch_id] < offered[branch_id]]
    work = tuple(replace(work, drafts=given.get(work.branch_id, 0)) for work in plan.work)
    return replace(plan, work=work)


def _rank(branch: _Branch) -> tuple[int, int]:
    return branch.rank
