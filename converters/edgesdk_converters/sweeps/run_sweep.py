"""The verb: runs a plan to its end, or to where it was, and writes table and report.

from edgesdk_converters.sweeps.run_sweep import run_sweep

report = run_sweep(read_plan(Path("plan.toml")), Path("out"), on="processes", workers=2)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from edgesdk.bundle.file_lock import FileLock
from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk_converters.sweeps.drive import FinishedCell, drive
from edgesdk_converters.sweeps.expand_plan import PlanDigests, check_plan, expand_plan
from edgesdk_converters.sweeps.fleet import Fleet
from edgesdk_converters.sweeps.job_store import JobStore
from edgesdk_converters.sweeps.local_fleet import InProcess, Processes
from edgesdk_converters.sweeps.plan import CONVERT, SweepPlan
from edgesdk_converters.sweeps.sweep_table import SweepTable, read_rows
from edgesdk_converters.sweeps.write_report import write_report

TABLE_NAME = "sweep.sqlite"
_MOST_WORKERS = 1024


@dataclass(frozen=True)
class SweepReport:
    """How a sweep ended.

    Attributes:
        folder: where everything is.
        done: cells with figures, conversions not counted.
        failed: cells with an error in their place.
        conversions: bundles that were asked for.
        not_converted: how many of them failed.
        reused: cells and conversions that were done before this run.
        notes: what is missing, a line each.
    """

    folder: Path
    done: int
    failed: int
    conversions: int
    not_converted: int
    reused: int
    notes: tuple[str, ...] = ()


def run_sweep(
    plan: SweepPlan,
    folder: Path,
    *,
    on: str = "local",
    workers: int = 2,
    retry_failed: bool = False,
    report: Callable[[FinishedCell], None] | None = None,
) -> SweepReport:
    """Runs a sweep; what its folder has already is not done again.

    Args:
        plan: what to do.
        folder: of the sweep; made if it is not there.
        on: `local` for this process, `processes` for a process for each job, `dask` for a cluster on this
            machine, `dask=ADDRESS` for the workers of a scheduler.
        workers: jobs at once, for `processes` and `dask`.
        retry_failed: do what failed before once more.
        report: told of each row, in the order in which they come.

    Raises:
        UnsupportedOption: nothing of the plan can be done, or there is no such fleet.
        CapacityError: another process runs a sweep in the folder.
        BundleError: the folder's table is something else.
        DeviceError: the fleet is gone.
        MissingExtra: Dask is asked for and not installed.
        OSError: the folder cannot be written.
    """
    check_plan(plan)
    if not 1 <= workers <= _MOST_WORKERS:
        raise UnsupportedOption(f"{workers} workers were asked for, expected 1 to {_MOST_WORKERS}")
    store = JobStore(folder.resolve())
    store.prepare()

    def refuse() -> None:
        raise CapacityError(f"another process runs a sweep in {folder}; wait for it or choose another folder")

    with (
        FileLock(store.folder / "driver.lock", refuse),
        SweepTable(store.folder / TABLE_NAME, os.urandom(8).hex()) as table,
    ):
        digests = PlanDigests()
        if retry_failed:
            _forget_failed(plan, store, digests)
        counts = SweepReport(folder, 0, 0, 0, 0, 0)

        def finished(row: FinishedCell) -> None:
            nonlocal counts
            counts = _counted(counts, row)
            table.add(row)
            if report is not None:
                report(row)

        with closing(open_fleet(on, store, workers)) as fleet:
            drive(expand_plan(plan, digests), fleet, store, finished)
        table.finish()
    notes = write_report(folder, plan.name, list(read_rows(folder / TABLE_NAME)))
    return replace(counts, notes=tuple(notes))


def open_fleet(on: str, store: JobStore, workers: int) -> Fleet:
    """The fleet of that name.

    Raises:
        UnsupportedOption: there is none.
        MissingExtra: Dask is not installed.
        DeviceError: its scheduler does not answer.
    """
    kind, _, scheduler = on.partition("=")
    if on == "local":
        return InProcess(store)
    if on == "processes":
        return Processes(store, workers)
    if kind == "dask" and (scheduler or on == "dask"):
        from edgesdk_converters.sweeps.dask_fleet import DaskFleet  # with distributed

        return DaskFleet(store, workers, scheduler or None)
    raise UnsupportedOption(
        f"there is no fleet {on!r}; expected local, processes, dask or dask=tcp://HOST:PORT"
    )


def _forget_failed(plan: SweepPlan, store: JobStore, digests: PlanDigests) -> None:
    for cell in expand_plan(plan, digests):
        for job in cell.jobs:
            outcome = store.read_outcome(job.key)
            if outcome is not None and outcome.status == "failed":
                store.forget(job.key)


def _counted(counts: SweepReport, row: FinishedCell) -> SweepReport:
    failed, is_conversion = row.outcome.status == "failed", row.cell.task == CONVERT
    return replace(
        counts,
        done=counts.done + (not failed and not is_conversion),
        failed=counts.failed + (failed and not is_conversion),
        conversions=counts.conversions + is_conversion,
        not_converted=counts.not_converted + (failed and is_conversion),
        reused=counts.reused + (row.tries == 0 and not failed),
    )
