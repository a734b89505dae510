"""Everything that runs at once: branches, their cells, and one step of the model for all of them.

One thread drives it, step by step. It knows tokens, not prompts: text goes in and out by what a request
brings along.
"""

from __future__ import annotations

import contextlib
import itertools
import time

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.decoding.stopping import FinishReason
from edgesdk.engine.branch import Branch, Request, SessionState
from edgesdk.engine.cell_room import CellRoom, shorten
from edgesdk.engine.failure import as_edge_error
from edgesdk.engine.log import log_end, log_failure, log_step
from edgesdk.engine.metrics import EngineMetrics
from edgesdk.engine.scheduler import Policy, Scheduler
from edgesdk.engine.step_plan import StepPlan
from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_runner import StepEntry, StepRunner


class Batch:
    """Runs requests together."""

    def __init__(self, runner: StepRunner, policy: Policy, prefix_bytes: int) -> None:
        """Starts with nothing to run.

        Args:
            runner: runs the steps; nobody else may use it meanwhile.
            policy: how steps are filled.
            prefix_bytes: most bytes that the prefix cache holds; 0 for none.
        """
        self._runner = runner
        self._scheduler = Scheduler(policy)
        self.room = CellRoom(runner, prefix_bytes)
        self.requests: set[Request] = set()
        """Those that have not ended."""
        self.sessions: set[SessionState] = set()
        """Those that are open."""
        self._branches: dict[int, Branch] = {}
        self._ids = itertools.count()
        self._steps = self._tokens = self._chosen = self._preemptions = self._finished = 0
        self._model_s = self._host_s = 0.0

    @property
    def policy(self) -> Policy:
        """How steps are filled."""
        return self._scheduler.policy

    @property
    def idle(self) -> bool:
        """Whether there is nothing to run."""
        return not self._branches

    def add(self, request: Request) -> None:
        """Queues a request."""
        self.requests.add(request)
        try:
            branch = self._new_branch(request, 0)
            priority, width = request.priority, request.samples
            self._scheduler.add(branch.branch_id, branch.known, priority=priority, width=width)
        except BaseException as error:  # noqa: BLE001 - what belongs to one request ends that one
            self.fail(request, error)

    def end(self, request: Request, finish: FinishReason) -> None:
        """Ends what is left of a request, keeping its text so far."""
        if request.ended:
            return
        try:
            for index in range(len(request.branches), request.samples):
                self._new_branch(request, index)  # a sample that had not begun ends, too
            for branch in request.branches:
                if branch.branch_id in self._branches:
                    self._finish(branch, finish)
        except BaseException as error:  # noqa: BLE001 - as in `add`
            self.fail(request, error)

    def fail(self, request: Request, error: BaseException) -> None:
        """Ends a request with an error; its session is as it was before."""
        if request.ended:
            return
        for branch in request.branches:
            state = request.session
            self._give_back(branch)
            if state is not None and state.cells is not None:
                shorten(state.cells, min(len(state.tokens), request.asked.held))
            self._drop(branch)
        self._end(request, "error")
        request.generation.fail(as_edge_error(error, "the answer"))

    def rewind_session(self, state: SessionState, length: int) -> None:
        """Has a session forget all tokens from `length` on."""
        state.tokens = state.tokens[:length].copy()
        if state.cells is not None:
            shorten(state.cells, length)

    def close_session(self, state: SessionState) -> None:
        """Takes a session's cells, after cancelling what is at work on it."""
        for request in [r for r in self.requests if r.session is state]:
            self.end(request, "cancelled")
        self.sessions.discard(state)
        if state.cells is not None:
            self.room.remember(state.cells)
            state.cells.close()
            state.cells = None

    def make_room(self, cells: int) -> bool:
        """Finds free cells: from the prefix cache, then from idle sessions, which are computed again.

        Returns:
            Whether there are as many now.
        """
        idle = None
        while not self.room.make_room(cells):
            if idle is None:
                # One whose request runs has lent its cells to that; one whose request waits counts as idle.
                idle = [s for s in self.sessions if s.cells is not None]
                idle.sort(key=lambda state: -state.used)
            if not idle:
                return False
            state = idle.pop()
            if state.cells is not None:
                state.cells.close()
                state.cells = None
        return True

    def end_overdue(self) -> None:
        """Ends requests whose deadline has passed."""
        now = time.perf_counter()
        for request in [r for r in self.requests if r.deadline_s is not None and r.deadline_s <= now]:
            self.end(request, "deadline")

    def step(self) -> StepPlan:
        """Plans and runs one step, and gives out what it gave, with the model to itself."""
        return self._runner.take_turn(self._step)

    def _step(self) -> StepPlan:
        began = time.perf_counter()
        plan = self._plan()
        for branch_id in plan.refused:
            self._refuse(self._branches[branch_id])
        for branch_id in plan.admitted:
            self._admit(self._branches[branch_id], began)
        branches = [self._branches[work.branch_id] for work in plan.work]
        if not branches:
            return plan
        wanted = [
            branch.chooser is not None and work.start + work.count == branch.known
            for branch, work in zip(branches, plan.work, strict=True)
        ]
        for branch, wants in zip(branches, wanted, strict=True):
            if wants and branch.chooser is not None:
                with contextlib.suppress(BaseException):  # `choose` meets it again, with the cells settled
                    branch.chooser.start_mask()
        ready = time.perf_counter()
        try:
            logits = self._run(plan, branches, wanted)
        except BaseException as error:  # noqa: BLE001 - whatever it was, every caller must hear of it
            log_failure(plan, error)
            broken = _broken(branches, error)
            for branch, work in zip(branches, plan.work, strict=True):
                if branch in broken or not _went_back(branch, work.start):
                    self.fail(branch.request, as_edge_error(error, "the step"))
            return plan
        done = time.perf_counter()
        self._scheduler.ran(plan)
        for branch, row in zip(branches, logits, strict=True):
            try:
                self._advance(branch, row, done)
            except BaseException as error:  # noqa: BLE001 - as in `add`
                self.fail(branch.request, error)
        self._steps += 1
        self._tokens += plan.tokens
        self._model_s += done - ready
        self._host_s += time.perf_counter() - done + ready - began
        log_step(plan, (done - ready) * 1e3)
        return plan

    def metrics(self) -> EngineMetrics:
        """Gauges and counters."""
        return EngineMetrics(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            cells_used=self.room.used,
            cells_free=self.room.free,
            cached_cells=self.room.cached,
            steps=self._steps,
            tokens=self._tokens,
            chosen_tokens=self._chosen,
            preemptions=self._preemptions,
            finished=self._finished,
            cache_hits=self.room.hits,
            cached_tokens=self.room.hit_tokens,
            model_s=self._model_s,
            host_s=self._host_s,
            token_budget=self._scheduler.policy.budget,
            seats=self._scheduler.policy.seats,
        )

    def check(self) -> None:
        """Checks the accounts of the cells.

        Raises:
            ValueError: they do not agree.
        """
        lists = [b.cells for b in self._branches.values() if b.cells is not None]
        self.room.check([*lists, *(s.cells for s in self.sessions if s.cells is not None)])

    def _plan(self) -> StepPlan:
        """Finds cells for the next step, first of all in the prefix cache, and plans it."""
        scheduler = self._scheduler
        opened: list[Branch] = []
        if self.make_room(scheduler.cells_wanted()):
            needed = 0
            for branch_id in scheduler.candidates():
                branch = self._branches[branch_id]
                if branch.cells is None:
                    self._open(branch)
                    scheduler.reuse(branch_id, branch.length)
                    opened.append(branch)
                needed = max(needed + branch.known - branch.length, scheduler.cells_to_admit(branch_id))
                if not self.make_room(needed):
                    break
        plan = scheduler.plan(self.room.free, self._preempt)
        for branch in opened:
            # What waits on holds nothing, so that it keeps nobody from running.
            if branch.branch_id not in plan.admitted and branch.branch_id not in plan.refused:
                self._give_back(branch)
                scheduler.reuse(branch.branch_id, 0)
        return plan

    def _open(self, branch: Branch) -> None:
        """Gives a queued branch what there is of its tokens: its session's cells, or those of the cache."""
        state = branch.request.session
        if state is None or state.cells is None:
            self.room.open(branch)
            return
        branch.cells, state.cells = state.cells, None
        shorten(branch.cells, min(branch.known - 1, branch.request.asked.held))

    def _give_back(self, branch: Branch) -> None:
        """Takes the cells of a branch, for its session if it has one."""
        state = branch.request.session
        if state is None:
            self.room.release(branch)
        elif branch.cells is not None:
            state.cells, branch.cells = branch.cells, None

    def _run(
        self, plan: StepPlan, branches: list[Branch], wanted: list[bool]
    ) -> list[NDArray[np.float32] | None]:
        """One step of the model; a plan beyond its largest size, which only whole prompts are, takes more."""
        starts = [work.start for work in plan.work]
        counts = [work.count for work in plan.work]
        most = self._runner.token_budgets[-1]
        while sum(counts) > most:
            longest = counts.index(max(counts))
            start, count = starts[longest], min(most, counts[longest] - 1)
            piece = branches[longest].tokens[start : start + count]
            self._runner.run([StepEntry(_cells_of(branches[longest]), piece, "none")])
            starts[longest] += count
            counts[longest] -= count
        return self._runner.run(
            [
                StepEntry(
                    _cells_of(branch), branch.tokens[start : start + count], "last" if wants else "none"
                )
                for branch, start, count, wants in zip(branches, starts, counts, wanted, strict=True)
            ]
        )

    def _advance(self, branch: Branch, logits: NDArray[np.float32] | None, now: float) -> None:
        """Goes on with a branch after its tokens have run."""
        request = branch.request
        if request.ended:
            return  # failed a moment ago, with another of its branches
        if logits is None:
            if branch.chooser is None and branch.length == branch.known:
                self._finish(branch, "length")
            return
        chosen_for = [branch]
        if not branch.answer.tokens and branch.index == 0:
            self.room.remember(_cells_of(branch))
            chosen_for += [self._fork(branch, index) for index in range(1, request.samples)]
        for each in chosen_for:
            if not request.ended:
                self._choose(each, logits, now)

    def _fork(self, branch: Branch, index: int) -> Branch:
        copy = self._new_branch(branch.request, index)
        copy.cells = _cells_of(branch).fork()
        copy.cached = branch.known
        self._scheduler.fork(branch.branch_id, copy.branch_id)
        return copy

    def _choose(self, branch: Branch, logits: NDArray[np.float32], now: float) -> None:
        chooser = branch.chooser
        if chooser is None:
            return
        tokens, finish = branch.answer.push(chooser.choose(logits), now)
        branch.append(tokens)
        self._chosen += len(tokens)
        if finish is not None:
            self._finish(branch, finish)
            return
        self._scheduler.grow(branch.branch_id, len(tokens))
        for chunk in branch.answer.take():
            branch.request.generation.put(chunk)

    def _new_branch(self, request: Request, index: int) -> Branch:
        branch = Branch(next(self._ids), request, index)
        request.branches.append(branch)
        self._branches[branch.branch_id] = branch
        return branch

    def _admit(self, branch: Branch, now: float) -> None:
        request = branch.request
        if branch.cells is None:
            branch.cells = self._runner.new_list()
        if request.started_s is None:
            request.started_s = now
            request.queued = False
            branch.cached = branch.length
            if request.session is None:
                self.room.count_hit(branch)

    def _preempt(self, branch_id: int) -> int:
        branch = self._branches[branch_id]
        branch.preemptions += 1
        self._preemptions += 1
        self.room.release(branch)
        self.make_room(self._scheduler.cells_wanted())
        return self.room.free

    def _refuse(self, branch: Branch) -> None:
        self.fail(
            branch.request,
            CapacityError(
                f"{branch.known} tokens need more cells than there are: {self.room.free} are free and nobody "
                "gives any back; shorten the prompt, or convert with a larger --context"
            ),
        )

    def _finish(self, branch: Branch, finish: FinishReason) -> None:
        """Ends one branch: its cells first, so that they are free when the caller hears of it."""
        request, state = branch.request, branch.request.session
        last_chunk = branch.answer.complete(finish, request.started_s)
        if state is not None:
            if branch.cells is None and state.cells is not None:  # it never ran
                shorten(state.cells, request.asked.held)
            state.tokens = branch.tokens.copy()
            state.used = self._steps
            self._give_back(branch)
        elif branch.cells is not None:
            self.room.remember(branch.cells)
        self._drop(branch)
        last = all(other.branch_id not in self._branches for other in request.branches)
        if last and len(request.branches) >= request.samples:
            self._end(request, finish)
        request.generation.put(last_chunk)

    def _drop(self, branch: Branch) -> None:
        self._scheduler.remove(branch.branch_id)
        self._branches.pop(branch.branch_id, None)
        self.room.release(branch)

    def _end(self, request: Request, outcome: str) -> None:
        request.ended = True
        request.queued = False
        if request.session is not None:
            request.session.busy = False
        self.requests.discard(request)
        self._finished += 1
        log_end(request, outcome)


def _went_back(branch: Branch, start: int) -> bool:
    """Has a branch as it was before a step that failed for others, so that it can be planned anew."""
    if branch.cells is not None and branch.cells.length > start:
        try:
            branch.cells.truncate(start)
        except CapacityError:
            return False
    return True


def _cells_of(branch: Branch) -> CellList:
    if branch.cells is None:
        raise DeviceError("a planned branch has no cells; please report this")
    return branch.cells


def _broken(branches: list[Branch], error: BaseException) -> list[Branch]:
    """Those that a failed step is the end of: all, unless it says whose numbers were not finite."""
    if isinstance(error, NotFiniteError) and error.sequences:
        return [branch for branch in branches if any(branch.cells is cells for cells in error.sequences)]
    return branches
