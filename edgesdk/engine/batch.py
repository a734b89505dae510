"""Everything that runs at once: requests, one step of the model for all of them, and what each chose in it.

One thread drives it, step by step. It knows tokens, not prompts: text goes in and out by what a request
brings along. Which branches a step runs, and with which cells, is `admission`'s.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.decoding.accept import accept
from edgesdk.decoding.draft import Draft, judge_draft
from edgesdk.decoding.drafting import Drafting
from edgesdk.decoding.stopping import FinishReason
from edgesdk.engine.admission import Admission, cells_of
from edgesdk.engine.branch import Branch, Request, SessionState
from edgesdk.engine.cell_room import CellRoom, shorten
from edgesdk.engine.failure import as_edge_error
from edgesdk.engine.log import log_end, log_failure, log_step
from edgesdk.engine.metrics import EngineMetrics
from edgesdk.engine.scheduler import Policy
from edgesdk.engine.session_store import SessionStore
from edgesdk.engine.step_drafts import StepDrafts
from edgesdk.engine.step_plan import StepPlan
from edgesdk.errors import CapacityError
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner

Rows = NDArray[np.float32] | None
"""Of one output of a step, for one branch; None where it wants none, or the backend has no such output."""


class Batch:
    """Runs requests together."""

    def __init__(
        self,
        runner: StepRunner,
        policy: Policy,
        room: CellRoom,
        sessions: SessionStore,
        drafting: Drafting | None = None,
    ) -> None:
        """Starts with nothing to run.

        Args:
            runner: runs the steps; nobody else may use it meanwhile.
            policy: how steps are filled.
            room: cells of the runner.
            sessions: that requests may go on with.
            drafting: proposes tokens; None for one token of each answer a step.
        """
        self._runner = runner
        self._room = room
        self._sessions = sessions
        self._admission = Admission(runner, policy, room, sessions)
        self._drafts = StepDrafts(runner, self._admission, drafting)
        self.requests: set[Request] = set()
        """Those that have not ended."""
        self._steps = self._tokens = self._chosen = self._finished = 0
        self._model_s = self._host_s = 0.0

    @property
    def policy(self) -> Policy:
        """How steps are filled."""
        return self._admission.policy

    @property
    def idle(self) -> bool:
        """Whether there is nothing to run."""
        return self._admission.idle

    def add(self, request: Request) -> None:
        """Queues a request."""
        self.requests.add(request)
        try:
            self._admission.queue(self._admission.new_branch(request, 0))
        except BaseException as error:  # noqa: BLE001 - what belongs to one request ends that one
            self.fail(request, error)

    def end(self, request: Request, finish: FinishReason) -> None:
        """Ends what is left of a request, keeping its text so far."""
        if request.ended:
            return
        try:
            for index in range(len(request.branches), request.samples):
                self._admission.new_branch(request, index)  # a sample that had not begun ends, too
            for branch in request.branches:
                if self._admission.holds(branch):
                    self._finish(branch, finish)
        except BaseException as error:  # noqa: BLE001 - as in `add`
            self.fail(request, error)

    def fail(self, request: Request, error: BaseException) -> None:
        """Ends a request with an error; its session is as it was before."""
        if request.ended:
            return
        for branch in request.branches:
            state = request.session
            self._admission.give_back(branch)
            if state is not None and state.cells is not None:
                shorten(state.cells, min(len(state.tokens), request.asked.held))
            self._drop(branch)
        self._end(request, "error")
        request.generation.fail(as_edge_error(error, "the answer"))

    def close_session(self, state: SessionState) -> None:
        """Takes a session's cells, after cancelling what is at work on it."""
        for request in [r for r in self.requests if r.session is state]:
            self.end(request, "cancelled")
        self._sessions.close(state)

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
        admission = self._admission
        plan = admission.plan()
        if plan.refused:
            for branch in admission.find(plan.refused):
                self._refuse(branch)
            plan = admission.without_ended(plan)
        for branch in admission.find(plan.admitted):
            admission.admit(branch, began)
        branches = admission.find(work.branch_id for work in plan.work)
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
        drafts = self._drafts.propose(plan, branches, wanted)
        ready = time.perf_counter()
        try:
            logits = self._run(plan, branches, wanted, drafts)
        except BaseException as error:  # noqa: BLE001 - whatever it was, every caller must hear of it
            log_failure(plan, error)
            broken = _broken(branches, error)
            for branch, work in zip(branches, plan.work, strict=True):
                if branch in broken or not _went_back(branch, work.start):
                    self.fail(branch.request, as_edge_error(error, "the step"))
            return plan
        done = time.perf_counter()
        admission.ran(plan)
        judged = []
        hidden = self._runner.hidden or [None] * len(branches)
        for branch, rows, states, draft in zip(branches, logits, hidden, drafts, strict=True):
            try:
                kept = self._advance(branch, rows, states, draft, done)
                if draft is not None:
                    judged.append(judge_draft(branch.draft_key, draft, kept))
            except BaseException as error:  # noqa: BLE001 - as in `add`
                self.fail(branch.request, error)
        self._drafts.learn(plan, done - ready, judged)
        self._steps += 1
        self._tokens += plan.tokens
        self._model_s += done - ready
        self._host_s += time.perf_counter() - done + ready - began
        drafted, kept = sum(each.drafted for each in judged), sum(each.kept for each in judged)
        log_step(plan, drafted, kept, (done - ready) * 1e3)
        return plan

    def metrics(self) -> EngineMetrics:
        """Gauges and counters."""
        return EngineMetrics(
            running=self._admission.running,
            waiting=self._admission.waiting,
            cells_used=self._room.used,
            cells_free=self._room.free,
            cached_cells=self._room.cached,
            steps=self._steps,
            tokens=self._tokens,
            chosen_tokens=self._chosen,
            preemptions=self._admission.preemptions,
            finished=self._finished,
            cache_hits=self._room.hits,
            cached_tokens=self._room.hit_tokens,
            model_s=self._model_s,
            host_s=self._host_s,
            token_budget=self.policy.budget,
            seats=self.policy.seats,
            drafted_tokens=self._drafts.drafted,
            kept_tokens=self._drafts.kept,
            draft_s=self._drafts.seconds,
        )

    def check(self) -> None:
        """Checks the accounts of the cells.

        Raises:
            ValueError: they do not agree.
        """
        self._admission.check()

    def _run(
        self, plan: StepPlan, branches: list[Branch], wanted: list[bool], drafts: list[Draft | None]
    ) -> list[Rows]:
        """One step of the model; a plan beyond its largest size, which only whole prompts are, takes more."""
        starts = [work.start for work in plan.work]
        counts = [work.count for work in plan.work]
        most = self._runner.token_budgets[-1]
        while sum(counts) > most:
            longest = counts.index(max(counts))
            start, count = starts[longest], min(most, counts[longest] - 1)
            piece = branches[longest].tokens[start : start + count]
            self._runner.run([StepEntry(cells_of(branches[longest]), piece, "none")])
            starts[longest] += count
            counts[longest] -= count
        return self._runner.run(
            [
                StepEntry(
                    cells_of(branch),
                    branch.tokens[start : start + count],
                    "last" if wants else "none",
                    None if draft is None else DraftTree(draft.tokens, draft.parents, draft.streams),
                )
                for branch, start, count, wants, draft in zip(
                    branches, starts, counts, wanted, drafts, strict=True
                )
            ]
        )

    def _advance(self, branch: Branch, logits: Rows, hidden: Rows, draft: Draft | None, now: float) -> int:
        """Goes on with a branch after its tokens have run; returns how many drafts were kept."""
        request = branch.request
        if request.ended:
            return 0  # failed a moment ago, with another of its branches
        if logits is None:
            if branch.chooser is None and branch.length == branch.known:
                self._finish(branch, "length")
            return 0
        if draft is not None:
            return self._choose(branch, logits, hidden, draft, now)
        chosen_for = [branch]
        if not branch.answer.tokens and branch.index == 0:
            self._room.remember(cells_of(branch))
            chosen_for += [self._admission.fork(branch, index) for index in range(1, request.samples)]
        for each in chosen_for:
            if not request.ended:
                self._choose(each, logits[None], None if hidden is None else hidden[None], None, now)
        return 0

    def _choose(
        self, branch: Branch, rows: NDArray[np.float32], hidden: Rows, draft: Draft | None, now: float
    ) -> int:
        """Goes on with an answer, by the logits after its last token and after each of its drafts."""
        chooser = branch.chooser
        if chooser is None:
            return 0
        accepted = accept(chooser, branch.answer, draft, rows, now)
        kept = len(accepted.path)
        if kept:
            self._runner.keep(cells_of(branch), accepted.path)
        self._drafts.note_state(branch, hidden, accepted.path, accepted.ahead(draft, rows))
        branch.append(accepted.tokens)
        self._chosen += len(accepted.tokens)
        self._tokens += kept
        if accepted.finish is not None:
            self._finish(branch, accepted.finish)
            return kept
        self._admission.grow(branch, len(accepted.tokens), kept)
        for chunk in branch.answer.take():
            branch.request.generation.put(chunk)
        return kept

    def _refuse(self, branch: Branch) -> None:
        self.fail(
            branch.request,
            CapacityError(
                f"{branch.known} tokens need more cells than there are: {self._room.free} are free and "
                "nobody gives any back; shorten the prompt, or convert with a larger --context"
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
            self._admission.give_back(branch)
        elif branch.cells is not None:
            self._room.remember(branch.cells)
        self._drop(branch)
        last = not any(self._admission.holds(other) for other in request.branches)
        if last and len(request.branches) >= request.samples:
            self._end(request, finish)
        request.generation.put(last_chunk)

    def _drop(self, branch: Branch) -> None:
        """Forgets a branch, wherever it is."""
        self._admission.drop(branch)
        self._drafts.forget(branch)

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


def _broken(branches: list[Branch], error: BaseException) -> list[Branch]:
    """Those that a failed step is the end of: all, unless it says whose numbers were not finite."""
    if isinstance(error, NotFiniteError) and error.sequences:
        return [branch for branch in branches if any(branch.cells is cells for cells in error.sequences)]
    return branches
