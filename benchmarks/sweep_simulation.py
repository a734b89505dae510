"""A sweep of 10,000 cells on 200 workers, by the real loop with simulated workers and a simulated clock.

    python benchmarks/sweep_simulation.py --cells 10000 --workers 200

Jobs take a minute or so (log-normal), conversions two, one in a hundred takes ten times as long, and
workers die in the middle of one job in fifty. Reported: the makespan over its bound, which is the larger of
the work that a sweep without deaths has, over the workers, and its longest chain; and the driver's memory,
by tracemalloc, which sees Python's own objects and not the simulated store's (SQLite's).
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
import sqlite3
import time
import tracemalloc
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import click

from edgesdk_converters.sweeps.drive import FinishedCell, drive
from edgesdk_converters.sweeps.expand_plan import SweepCell
from edgesdk_converters.sweeps.fleet import Ended
from edgesdk_converters.sweeps.job import Job, Outcome

TASKS = 24
"""Cells of a bundle, its conversion counted: 25 rows."""
_RESTART_S = 30.0


@dataclass(frozen=True)
class Weather:
    """What goes wrong.

    Attributes:
        stragglers: share of jobs that take ten times as long.
        deaths: share of tries in which the worker dies.
        seed: of everything random.
    """

    stragglers: float = 0.01
    deaths: float = 0.02
    seed: int = 0


def seconds_of(job: Job, weather: Weather) -> float:
    """How long a job takes: by its key, so that it is the same on every worker and in every run."""
    chance = random.Random(f"{weather.seed} {job.key}")
    typical = 120.0 if job.kind == "convert" else 60.0
    slow = 10.0 if chance.random() < weather.stragglers else 1.0
    return typical * chance.lognormvariate(0, 0.25) * slow


def cells_of(count: int) -> Iterator[SweepCell]:
    """So many cells, made when they are asked for."""

    def key(*parts: object) -> str:
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    for number in range(count):
        bundle, task = divmod(number, TASKS + 1)
        conversion = Job(key("bundle", bundle), "convert", f"convert {bundle}", {})
        place = (f"source {bundle // 10}", "plain", f"recipe {bundle % 10}", "litert")
        if task == 0:
            yield SweepCell(*place, "-", "convert", (conversion,), "")
            continue
        job = Job(key(bundle, task), "evaluate", f"task {task} of {bundle}", {}, (conversion.key,))
        yield SweepCell(*place, "here", f"task {task}", (conversion, job), "")


class SimulatedStore:
    """Keys of what is done, outside of Python's memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.execute("CREATE TABLE done (key TEXT PRIMARY KEY, status TEXT) WITHOUT ROWID")

    def read_outcome(self, key: str) -> Outcome | None:
        found = self._database.execute("SELECT status FROM done WHERE key = ?", (key,)).fetchone()
        return None if found is None else Outcome(key, found[0])

    def write_outcome(self, outcome: Outcome) -> None:
        self._database.execute("INSERT INTO done VALUES (?, ?)", (outcome.key, outcome.status))


class SimulatedFleet:
    """Workers by a clock of its own; running a job that has an outcome would be work done twice."""

    def __init__(self, store: SimulatedStore, workers: int, weather: Weather) -> None:
        self.slots = workers
        self.clock = 0.0
        self.busy_s = 0.0
        self._store, self._weather = store, weather
        self._idle = workers
        self._queue: deque[Job] = deque()
        self._events: list[tuple[float, int, Job | None, bool]] = []
        self._order = 0
        self._chance = random.Random(weather.seed)

    def check(self, job: Job) -> str | None:
        return None

    def submit(self, job: Job) -> None:
        if self._store.read_outcome(job.key) is not None:
            raise AssertionError(f"{job.label} is done twice")
        self._queue.append(job)
        self._start()

    def wait(self) -> list[Ended]:
        while True:
            self.clock, _, job, dies = heapq.heappop(self._events)
            if job is None:  # a worker has started again
                self._idle += 1
                self._start()
                continue
            if dies:
                self._event(self.clock + _RESTART_S, None, False)
                return [Ended(job, "its worker died", again=True)]
            self._idle += 1
            self._store.write_outcome(Outcome(job.key, "done"))
            self._start()
            return [Ended(job)]

    def close(self) -> None:
        return

    def _start(self) -> None:
        while self._idle and self._queue:
            job = self._queue.popleft()
            self._idle -= 1
            takes = seconds_of(job, self._weather)
            dies = self._chance.random() < self._weather.deaths
            self.busy_s += takes
            self._event(self.clock + (takes * self._chance.random() if dies else takes), job, dies)

    def _event(self, when: float, job: Job | None, dies: bool) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, job, dies))


def bound_s(cells: int, workers: int, weather: Weather) -> float:
    """No schedule is shorter: the work over the workers, or the longest chain."""
    work = longest = 0.0
    converting: dict[str, float] = {}
    for cell in cells_of(cells):
        own = seconds_of(cell.jobs[-1], weather)
        work += own
        if cell.task == "convert":
            converting = {cell.jobs[0].key: own}
            longest = max(longest, own)
        else:
            longest = max(longest, own + converting[cell.jobs[0].key])
    return max(work / workers, longest)


def simulate(cells: int, workers: int, weather: Weather) -> dict[str, float]:
    """Runs the loop to its end."""
    store = SimulatedStore()
    fleet = SimulatedFleet(store, workers, weather)
    counts = {"done": 0, "failed": 0}

    def finished(row: FinishedCell) -> None:
        counts[row.outcome.status] += 1

    started = time.process_time()
    tracemalloc.start()
    drive(cells_of(cells), fleet, store, finished)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    bound = bound_s(cells, workers, weather)
    return {
        "cells": cells,
        "workers": workers,
        **counts,
        "makespan_s": fleet.clock,
        "bound_s": bound,
        "over_bound": fleet.clock / bound,
        "driver_peak_mb": peak / 1e6,
        "driver_cpu_s": time.process_time() - started,
    }


@click.command()
@click.option("--cells", default=10_000, show_default=True)
@click.option("--workers", default=200, show_default=True)
@click.option(
    "--stragglers", default=0.01, show_default=True, help="share of jobs that take ten times as long"
)
@click.option("--deaths", default=0.02, show_default=True, help="share of tries in which the worker dies")
@click.option("--seed", default=0, show_default=True)
def main(cells: int, workers: int, stragglers: float, deaths: float, seed: int) -> None:
    """Simulates a sweep and prints its figures as JSON."""
    click.echo(json.dumps(simulate(cells, workers, Weather(stragglers, deaths, seed))))


if __name__ == "__main__":
    main()
