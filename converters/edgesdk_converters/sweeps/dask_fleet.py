"""A fleet of Dask workers (distributed): on this machine, or wherever a scheduler's workers are.

Why Dask and not Ray is in decision 0035. A worker does nothing but start a process for each job, so what a
job breaks is not the worker; a worker that dies takes its job with it, and the job is done elsewhere.
Workers see the sweep's folder and the sources under the same paths as the driver. Whoever reaches a
scheduler can run code on its workers: keep it in a network that you trust, or give it TLS
(`distributed.comm.tls`).
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

from edgesdk.errors import DeviceError, MissingExtra, first_line
from edgesdk_converters.sweeps.fleet import Ended
from edgesdk_converters.sweeps.job import Job
from edgesdk_converters.sweeps.job_store import JobStore
from edgesdk_converters.sweeps.run_job import run_apart

_PATIENCE_S = 60.0
_STARTS = 3


class DaskFleet:
    """Runs jobs on the workers of a Dask cluster."""

    def __init__(self, store: JobStore, workers: int, scheduler: str | None = None) -> None:
        """Starts a cluster, or joins one.

        Args:
            store: of the sweep.
            workers: jobs at once, for a cluster of its own on this machine.
            scheduler: address of a scheduler to join, `tcp://HOST:PORT`; None for a cluster of its own.

        Raises:
            MissingExtra: Dask is not installed.
            DeviceError: the scheduler does not answer, or has no worker within a minute.
        """
        try:
            from distributed import Client, as_completed
        except ModuleNotFoundError as error:
            raise MissingExtra(error.name or "distributed", "fleet") from error
        self._folder = str(store.folder.resolve())
        self._cluster: Any = None
        self._running: dict[Any, Job] = {}
        try:
            if scheduler is None:
                self._cluster = _start_cluster(workers)
            self._client = Client(scheduler or self._cluster, timeout=_PATIENCE_S, set_as_default=False)
            self._client.wait_for_workers(1, timeout=_PATIENCE_S)
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            self.close()
            where = scheduler or "this machine"
            raise DeviceError(
                f"no Dask workers at {where}: {first_line(error)}; start `dask worker`"
            ) from error
        self._completed = as_completed([], loop=self._client.loop)

    @property
    def slots(self) -> int:
        """Threads of all workers that are there now."""
        return max(1, int(sum(self._client.nthreads().values())))

    def check(self, job: Job) -> str | None:
        """Refuses a job whose worker is not there: Dask would wait for it for ever."""
        if job.worker is None:
            return None
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if any(job.worker in each.get("resources", {}) for each in workers):
            return None
        return f"no worker offers {job.worker!r}; start one with: dask worker --resources {job.worker}=1"

    def submit(self, job: Job) -> None:
        """Hands a job to a worker."""
        needed = {} if job.worker is None else {job.worker: 1}
        # Not by its key: Dask would answer a second try from the memory of the first.
        future = self._client.submit(run_apart, job, self._folder, pure=False, retries=0, resources=needed)
        self._running[future] = job
        self._completed.add(future)

    def wait(self) -> list[Ended]:
        """Jobs that have ended."""
        batch = [next(self._completed)]
        if self._completed.has_ready():
            batch += self._completed.next_batch(block=False)
        return [self._ended(future) for future in batch]

    def _ended(self, future: Any) -> Ended:
        job = self._running.pop(future)
        try:
            done: Ended = future.result()
            return done
        except CancelledError as error:
            raise DeviceError("the Dask scheduler is gone; run the sweep again to go on") from error
        except Exception as error:  # noqa: BLE001 - KilledWorker, or what a worker without edgesdk raises
            return Ended(job, f"its worker failed: {type(error).__name__}: {first_line(error)}", again=True)
        finally:
            future.release()

    def close(self) -> None:
        """Leaves the cluster, and ends one of its own."""
        for part in (getattr(self, "_client", None), self._cluster):
            if part is not None:
                part.close()


def _start_cluster(workers: int) -> Any:
    """A cluster on this machine; a worker that dies while it starts is no reason to give up.

    Raises:
        RuntimeError: workers do not start.
    """
    from distributed import LocalCluster

    for left in reversed(range(_STARTS)):
        try:
            # One job a worker, which then waits for a process; memory is the job's business.
            return LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0
            )
        except RuntimeError:
            if not left:
                raise
    raise AssertionError("a loop without end")
