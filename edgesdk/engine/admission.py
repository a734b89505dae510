"""Which branches there are, which of them the next step runs, and where their cells come from.

The one place that keeps branches, the scheduler's entries and the cells in step. It runs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

from edgesdk.engine.branch import Branch, Request
from edgesdk.engine.cell_room import CellRoom, shorten
from edgesdk.engine.scheduler import Policy, Scheduler, share_drafts
from edgesdk.engine.session_store import SessionStore
from edgesdk.engine.step_plan import StepPlan
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_runner import StepRunner


class Admission:
    """Lets branches into steps."""

    def __init__(self, runner: StepRunner, policy: Policy, room: CellRoom, sessions: SessionStore) -> None:
        """Starts without branches.

        Args:
            runner: whose cells.
            policy: how steps are filled.
            room: gives cells to branches.
            sessions: lend theirs to the branches of their requests.
        """
        self._runner = runner
        self._scheduler = Scheduler(policy)
        self._room = room
        self._sessions = sessions
        self._branches: dict[int, Branch] = {}
        self._ids = itertools.count()
        self.preemptions = 0
        """How often cells were taken from a branch."""

    @property
    def policy(self) -> Policy:
        """How steps are filled."""
        return self._scheduler.policy

    @property
    def running(self) -> int:
        """Branches that hold a seat."""
        return self._scheduler.running

    @property
    def waiting(self) -> int:
        """Branches in the queue."""
        return self._scheduler.waiting

    @property
    def idle(self) -> bool:
        """Whether there are no branches."""
        return not self._branches

    def holds(self, branch: Branch) -> bool:
        """Whether a branch has not ended."""
        return branch.branch_id in self._branches

    def find(self, branch_ids: Iterable[int]) -> list[Branch]:
        """Branches by what a plan calls them."""
        return [self._branches[branch_id] for branch_id in branch_ids]

    def new_branch(self, request: Request, index: int) -> Branch:
        """A branch of a request, which neither waits nor runs yet."""
        branch = Branch(next(self._ids), request, index)
        request.branches.append(branch)
        self._branches[branch.branch_id] = branch
        return branch

    def queue(self, branch: Branch) -> None:
        """Has a branch wait, with seats for all samples of its request."""
        request = branch.request
        self._scheduler.add(branch.branch_id, branch.known, priority=request.priority, width=request.samples)

    def fork(self, branch: Branch, index: int) -> Branch:
        """Another sample of a running branch's request, which goes on from the same cells."""
        copy = self.new_branch(branch.request, index)
        copy.cells = cells_of(branch).fork()
        copy.cached = branch.known
        self._scheduler.fork(branch.branch_id, copy.branch_id)
        return copy

    def grow(self, branch: Branch, count: int, kept: int = 0) -> None:
        """Notes `count` chosen tokens of a running branch, the first `kept` of which have cells already."""
        self._scheduler.keep(branch.branch_id, kept)
        self._scheduler.grow(branch.branch_id, count)

    def share_drafts(self, plan: StepPlan, offered: Mapping[int, int], most: int) -> StepPlan:
        """Lets drafts into a plan, as far as cells are free; only the prefix cache gives any up for them.

        Args:
            plan: of the step.
            offered: drafted tokens by branch.
            most: that budget and rows leave.
        """
        most = min(most, sum(offered.values()))
        self._room.make_room(plan.tokens + most)
        return share_drafts(plan, offered, min(most, self._room.free - plan.tokens))

    def drop(self, branch: Branch) -> None:
        """Forgets a branch, wherever it is, and frees its cells."""
        self._scheduler.remove(branch.branch_id)
        self._branches.pop(branch.branch_id, None)
        self._room.release(branch)

    def give_back(self, branch: Branch) -> None:
        """Takes the cells of a branch, for its session if it has one."""
        state = branch.request.session
        if state is None:
            self._room.release(branch)
        elif branch.cells is not None:
            state.cells, branch.cells = branch.cells, None

    def plan(self) -> StepPlan:
        """Finds cells for the next step, first of all in the prefix cache, and plans it."""
        scheduler = self._scheduler
        opened: list[Branch] = []
        if self._sessions.make_room(scheduler.cells_wanted()):
            needed = 0
            for branch_id in scheduler.candidates():
                branch = self._branches[branch_id]
                if branch.cells is None:
                    self._open(branch)
                    scheduler.reuse(branch_id, branch.length)
                    opened.append(branch)
                needed = max(needed + branch.known - branch.length, scheduler.cells_to_admit(branch_id))
                if not self._sessions.make_room(needed):
                    break
        plan = scheduler.plan(self._room.free, self._preempt)
        for branch in opened:
            # What waits on holds nothing, so that it keeps nobody from running.
            if branch.branch_id not in plan.admitted and branch.branch_id not in plan.refused:
                self.give_back(branch)
                scheduler.reuse(branch.branch_id, 0)
        return plan

    def without_ended(self, plan: StepPlan) -> StepPlan:
        """A plan without branches that have ended since: who is refused takes its request's others along."""
        return replace(
            plan,
            work=tuple(work for work in plan.work if work.branch_id in self._branches),
            admitted=tuple(branch_id for branch_id in plan.admitted if branch_id in self._branches),
        )

    def admit(self, branch: Branch, now: float) -> None:
        """Lets a branch of a plan leave the queue.

        Args:
            branch: that the plan admits.
            now: on the clock of `time.perf_counter`.
        """
        request = branch.request
        if branch.cells is None:
            branch.cells = self._runner.new_list(branch.gates)
        if request.started_s is None:
            request.started_s = now
            request.queued = False
            branch.cached = branch.length
            if request.session is None:
                self._room.count_hit(branch)

    def ran(self, plan: StepPlan) -> None:
        """Notes that a plan's tokens have been run."""
        self._scheduler.ran(plan)

    def check(self) -> None:
        """Checks the accounts of the cells.

        Raises:
            ValueError: they do not agree.
        """
        lists = [branch.cells for branch in self._branches.values() if branch.cells is not None]
        self._room.check([*lists, *self._sessions.cells])

    def _open(self, branch: Branch) -> None:
        """Gives a queued branch what there is of its tokens: its session's cells, or those of the cache."""
        state = branch.request.session
        if state is None or state.cells is None:
            self._room.open(branch)
            return
        branch.cells, state.cells = state.cells, None
        shorten(branch.cells, min(branch.known - 1, branch.request.asked.held))

    def _preempt(self, branch_id: int) -> int:
        """Takes the cells of a branch; returns how many are free then."""
        branch = self._branches[branch_id]
        branch.preemptions += 1
        self.preemptions += 1
        self._room.release(branch)
        self._sessions.make_room(self._scheduler.cells_wanted())
        return self._room.free


def cells_of(branch: Branch) -> CellList:
    """The cells of a planned branch.

    Raises:
        DeviceError: it has none.
    """
    if branch.cells is None:
        raise DeviceError("a planned branch has no cells; please report this")
    return branch.cells
