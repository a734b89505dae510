"""The loop of a sweep: opens cells from the front, hands their jobs to a fleet, and hands out rows.

Only so many cells are open at once that every worker has something to do, so the memory of the driver does
not grow with the plan. Of what is open, jobs that others wait for go first, then those of earlier cells: so
there is always a bundle to measure, and the last ones are made before the end. What is done is known from the
store alone, so a driver that is killed begins again where it was. It knows no kinds of jobs and no clusters.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from edgesdk_converters.sweeps.expand_plan import SweepCell
from edgesdk_converters.sweeps.fleet import Ended, Fleet
from edgesdk_converters.sweeps.job import Job, Outcome

MOST_TRIES = 3
"""Of a job whose process or worker dies."""
_CELLS_PER_SLOT = 32
"""So many that bundles of 25 cells are made ahead for all workers."""
_LEAST_CELLS = 16


class Outcomes(Protocol):
    """What of a store the loop needs (`job_store.JobStore`)."""

    def read_outcome(self, key: str) -> Outcome | None:
        """What came of a job; None where it was not done."""

    def write_outcome(self, outcome: Outcome) -> None:
        """Makes a job done."""


@dataclass(frozen=True)
class FinishedCell:
    """A row.

    Attributes:
        cell: which.
        outcome: of its last job, or of the one that it failed with.
        tries: processes that its last job took in this run; 0 where it was done before.
    """

    cell: SweepCell
    outcome: Outcome
    tries: int


@dataclass
class _Open:
    """A cell that is not finished: its jobs from the front, of which some are done."""

    order: int
    cell: SweepCell
    left: dict[str, Job] = field(default_factory=dict)


def drive(
    cells: Iterable[SweepCell],
    fleet: Fleet,
    store: Outcomes,
    finished: Callable[[FinishedCell], None],
) -> None:
    """Does every job of every cell, each once.

    Args:
        cells: from `expand_plan`; read as far as there is work for the fleet.
        fleet: where jobs run.
        store: where outcomes are.
        finished: told of each cell, in the order in which they finish.

    Raises:
        DeviceError: the fleet is gone.
        OSError: an outcome cannot be written.
    """
    _Drive(iter(cells), fleet, store, finished).run()


class _Drive:
    def __init__(
        self,
        cells: Iterator[SweepCell],
        fleet: Fleet,
        store: Outcomes,
        finished: Callable[[FinishedCell], None],
    ) -> None:
        self._cells, self._fleet, self._store, self._finished = cells, fleet, store, finished
        self._order = 0
        self._open: dict[int, _Open] = {}
        self._waiting: dict[str, set[int]] = {}  # key of a job that is not done -> cells that want it
        self._ready: list[tuple[bool, int, int, str]] = []
        self._queued: set[str] = set()
        self._running: set[str] = set()
        self._tries: dict[str, int] = {}
        self._more = True

    def run(self) -> None:
        while True:
            self._fill()
            self._submit()
            if not self._running:
                if not self._open and not self._more:
                    return
                assert self._ready or self._more, "cells wait for jobs that nobody runs"
                continue
            for ended in self._fleet.wait():
                self._end(ended)

    def _fill(self) -> None:
        """Opens cells until there is enough to do."""
        most = max(_LEAST_CELLS, _CELLS_PER_SLOT * self._fleet.slots)
        while self._more and len(self._open) < most:
            cell = next(self._cells, None)
            if cell is None:
                self._more = False
                return
            self._take(cell)

    def _take(self, cell: SweepCell) -> None:
        """Opens a cell, or finishes it at once where everything is done or nothing can be."""
        if not cell.jobs:
            self._finish(cell, Outcome("", "failed", cell.error or "it has no jobs"))
            return
        last = cell.jobs[-1]
        done = self._store.read_outcome(last.key)
        if done is not None:
            self._finish(cell, done)
            return
        left = {}
        for job in cell.jobs:
            refused = self._fleet.check(job)
            if refused is not None:
                self._finish(cell, Outcome(job.key, "failed", refused))
                return
            outcome = self._store.read_outcome(job.key)
            if outcome is None:
                left[job.key] = job
            elif outcome.status == "failed":
                self._finish(cell, _not_run(last, job, outcome))
                return
        opened = _Open(self._order, cell, left)
        self._open[self._order] = opened
        self._order += 1
        for key in left:
            self._waiting.setdefault(key, set()).add(opened.order)
        self._queue_ready(opened)

    def _queue_ready(self, opened: _Open) -> None:
        """Queues the jobs of a cell that wait for nothing."""
        for place, (key, job) in enumerate(opened.left.items()):
            if key not in self._queued and not any(need in opened.left for need in job.needs):
                self._queued.add(key)
                is_last = key == opened.cell.jobs[-1].key and len(opened.cell.jobs) > 1
                heapq.heappush(self._ready, (is_last, opened.order, place, key))

    def _submit(self) -> None:
        """Keeps the fleet busy, with one job in hand for each that runs."""
        while self._ready and len(self._running) < 2 * self._fleet.slots:
            *_, key = heapq.heappop(self._ready)
            wanting = self._waiting.get(key)
            if not wanting:  # the cells that wanted it have failed meanwhile
                self._queued.discard(key)
                self._tries.pop(key, None)
                continue
            self._tries[key] = self._tries.get(key, 0) + 1
            self._running.add(key)
            self._fleet.submit(self._open[min(wanting)].left[key])

    def _end(self, ended: Ended) -> None:
        key = ended.job.key
        self._running.discard(key)
        outcome = self._store.read_outcome(key)
        if outcome is None:
            lost = ended.lost or "its process left no outcome"
            if (ended.again or ended.lost is None) and self._tries[key] < MOST_TRIES:
                heapq.heappush(self._ready, (False, -1, 0, key))  # before all others: cells wait for it
                return
            tries = self._tries[key]
            outcome = Outcome(key, "failed", lost if tries == 1 else f"{lost} ({tries} tries)")
            self._store.write_outcome(outcome)
        for order in sorted(self._waiting.pop(key, ())):
            self._advance(self._open[order], ended.job, outcome)
        self._queued.discard(key)
        self._tries.pop(key, None)

    def _advance(self, opened: _Open, job: Job, outcome: Outcome) -> None:
        """One job of a cell has an outcome."""
        last = opened.cell.jobs[-1]
        del opened.left[job.key]
        if outcome.status == "failed" and job.key != last.key:
            self._close(opened, _not_run(last, job, outcome))
        elif job.key == last.key:
            self._close(opened, outcome)
        else:
            self._queue_ready(opened)

    def _close(self, opened: _Open, outcome: Outcome) -> None:
        for key in opened.left:
            wanting = self._waiting.get(key)
            if wanting is not None:
                wanting.discard(opened.order)
                if not wanting and key not in self._running:
                    del self._waiting[key]
        del self._open[opened.order]
        self._finish(opened.cell, outcome)

    def _finish(self, cell: SweepCell, outcome: Outcome) -> None:
        self._finished(FinishedCell(cell, outcome, self._tries.get(outcome.key, 0)))


def _not_run(last: Job, job: Job, outcome: Outcome) -> Outcome:
    """The outcome of a cell one of whose jobs has failed before its last one."""
    return Outcome(last.key, "failed", f"{job.label} failed: {outcome.error}", made=outcome.made)
