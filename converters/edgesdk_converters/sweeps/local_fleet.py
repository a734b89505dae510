"""Fleets of this machine: this process alone, or a process for each job."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event

from edgesdk_converters.sweeps.fleet import Ended
from edgesdk_converters.sweeps.job import Job
from edgesdk_converters.sweeps.job_store import JobStore
from edgesdk_converters.sweeps.run_job import run_apart, run_job


def refuse_worker(job: Job) -> str | None:
    """The line for a job that wants a worker of a name, where all there is is this machine."""
    if job.worker is None:
        return None
    return f"it needs a worker that offers {job.worker!r}; run the sweep with --on dask=ADDRESS"


class InProcess:
    """Runs jobs one after the other in this process; a job that crashes it ends the sweep."""

    def __init__(self, store: JobStore) -> None:
        """Takes the store of the sweep."""
        self._store = store
        self._queue: deque[Job] = deque()
        self.slots = 1

    def check(self, job: Job) -> str | None:
        """Refuses jobs for workers elsewhere."""
        return refuse_worker(job)

    def submit(self, job: Job) -> None:
        """Takes a job."""
        self._queue.append(job)

    def wait(self) -> list[Ended]:
        """Runs the oldest job."""
        job = self._queue.popleft()
        run_job(job, self._store)
        return [Ended(job)]

    def close(self) -> None:
        """Nothing runs between two calls."""


class Processes:
    """Runs each job in a process of its own, a few at once."""

    def __init__(self, store: JobStore, workers: int) -> None:
        """Starts threads that wait for processes.

        Args:
            store: of the sweep.
            workers: jobs at once.
        """
        self._folder = str(store.folder)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="sweep")
        self._running: set[Future[Ended]] = set()
        self._closed = Event()
        self.slots = workers

    def check(self, job: Job) -> str | None:
        """Refuses jobs for workers elsewhere."""
        return refuse_worker(job)

    def submit(self, job: Job) -> None:
        """Starts a job as soon as one of the threads is free."""
        self._running.add(self._threads.submit(run_apart, job, self._folder, self._closed.is_set))

    def wait(self) -> list[Ended]:
        """Jobs whose process has ended."""
        done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
        return [future.result() for future in done]

    def close(self) -> None:
        """Ends what runs, and lets the rest be."""
        self._closed.set()
        self._threads.shutdown(cancel_futures=True)
