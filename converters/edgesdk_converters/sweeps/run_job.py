"""Does one job unless it is done, and keeps what came of it; also in a process of its own.

    python -m edgesdk_converters.sweeps.run_job STORE PARENT JOB

A process of its own bounds what a job can break: a runtime that aborts, memory that is not given back, a
peak of memory that belongs to another job. It ends when its parent does, so that nobody is left behind who
works for a sweep that is no more; if it had the lock, the next one to want the job finds it undone and does
it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from edgesdk.bundle.records import JsonValue
from edgesdk.devices.cpu import read_processor
from edgesdk.devices.packages import installed_version
from edgesdk.devices.process_memory import peak_rss_bytes
from edgesdk.devices.run_isolated import run_isolated
from edgesdk.errors import EdgeError, first_line
from edgesdk.version import read_version
from edgesdk_converters.sweeps.fleet import Ended
from edgesdk_converters.sweeps.job import Job, Outcome
from edgesdk_converters.sweeps.job_store import JobStore
from edgesdk_converters.sweeps.quiet_machine import on_machine

_PACKAGES = ("numpy", "tokenizers", "ai-edge-litert", "onnxruntime", "openvino", "lm_eval")
_POLL_S = 0.5


def run_job(job: Job, store: JobStore) -> Outcome:
    """Does a job in this process, or finds that it was done.

    Raises:
        OSError: the outcome cannot be written.
    """
    done = store.read_outcome(job.key)
    if done is not None:
        return done
    with store.lock(job.key):
        done = store.read_outcome(job.key)  # by who held the lock until now
        if done is not None:
            return done
        with on_machine(job.alone):
            store.note(job.key, "begin")
            outcome = _do(job, store)
        store.write_outcome(outcome)
        store.note(job.key, "end")
    return outcome


def run_apart(job: Job, folder: str, cancelled: Callable[[], bool] | None = None) -> Ended:
    """Does a job in a process of its own.

    Args:
        job: what to do.
        folder: of the store.
        cancelled: asked every 50 ms; the process is ended when it says so.

    Returns:
        How that ended; where the process ended in order, the store has the outcome.
    """
    arguments = ("-m", "edgesdk_converters.sweeps.run_job", folder, str(os.getpid()), job.to_text())
    process = run_isolated(arguments, job.timeout_s, cancelled=cancelled)
    return Ended(job, process.reason, again=process.reason is not None and not process.stopped)


def _do(job: Job, store: JobStore) -> Outcome:
    from edgesdk_converters.sweeps.carry_out import carry_out  # with everything that converts and runs

    started, clock = datetime.now(UTC), time.perf_counter()
    figures: dict[str, JsonValue] = {}
    error: str | None = None
    try:
        with _quiet_streams():
            figures = carry_out(job, store)
    except EdgeError as failure:
        error = first_line(failure)
    except OSError as failure:
        where = "" if failure.filename is None else f"{failure.filename}: "
        error = f"{where}{failure.strerror or first_line(failure)}"
    except MemoryError:
        error = "there is not enough memory; use a smaller model, context or recipe"
    except Exception as failure:  # noqa: BLE001 - a cell that fails is a row, not the end of a sweep
        error = f"internal: {type(failure).__name__}: {first_line(failure)}"
    made = _provenance(started, time.perf_counter() - clock)
    return Outcome(job.key, "done" if error is None else "failed", error, figures, made)


def _provenance(started: datetime, wall_s: float) -> dict[str, JsonValue]:
    processor = read_processor()
    packages = {name: installed_version(name) for name in _PACKAGES}
    return {
        "started_at": started.isoformat(timespec="seconds"),
        "wall_s": wall_s,
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor.name,
        "cores": processor.cores,
        "python": platform.python_version(),
        "edgesdk": read_version(),
        "packages": {name: version for name, version in packages.items() if version is not None},
        "pid": os.getpid(),
        "process_peak_rss_bytes": peak_rss_bytes(),
    }


@contextlib.contextmanager
def _quiet_streams() -> Iterator[None]:
    """What libraries print is no part of a sweep's output."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield


def _follow(parent: int) -> None:
    """Ends this process when its parent has ended."""
    import psutil

    def watch() -> None:
        while psutil.pid_exists(parent) and (os.name == "nt" or os.getppid() == parent):
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Runs the job that the command line holds."""
    folder, parent, text = arguments
    _follow(int(parent))
    run_job(Job.from_text(text), JobStore(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
