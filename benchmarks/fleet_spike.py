"""Ray against Dask as what carries tasks to workers: start, overhead, memory, and what a kill does.

    python benchmarks/fleet_spike.py ray --tasks 500
    python benchmarks/fleet_spike.py dask --tasks 500

In an environment of its own with `ray` and `distributed`; decision 0035 has the figures. Each is run with two
workers on this machine. Reported, as JSON: `start_s` until the first task has answered, `task_ms` of an empty
task, `pss_mb` of everything that was started (memory that is shared counts once), `worker_killed` (what the
caller of a task hears whose worker gets SIGKILL, and after how long), `again_s` until a task runs after that,
and `left` (processes that are still there 10 s after SIGKILL of the driver).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil

WORKERS = 2


def nothing(number: int) -> int:
    return number


def sleep_long(where: str) -> None:
    Path(where).write_text(str(os.getpid()), encoding="ascii")
    time.sleep(60)


class RayFleet:
    def __init__(self) -> None:
        import ray

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self.ray = ray
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
        self.calls = {f: ray.remote(max_retries=0)(f) for f in (nothing, sleep_long)}

    def submit(self, function, value):
        return self.calls[function].remote(value)

    def result(self, handle):
        return self.ray.get(handle)

    def close(self) -> None:
        self.ray.shutdown()


class DaskFleet:
    def __init__(self) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)

    def submit(self, function, value):
        return self.client.submit(function, value, pure=False, retries=0)

    def result(self, handle):
        return handle.result()

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


FLEETS = {"ray": RayFleet, "dask": DaskFleet}


def pss_mb(processes) -> float:
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def measure(name: str, tasks: int, folder: Path) -> dict[str, object]:
    started = time.perf_counter()
    fleet = FLEETS[name]()
    fleet.result(fleet.submit(nothing, 0))
    found: dict[str, object] = {"fleet": name, "start_s": time.perf_counter() - started}
    for handle in [fleet.submit(nothing, i) for i in range(50)]:
        fleet.result(handle)
    started = time.perf_counter()
    for handle in [fleet.submit(nothing, i) for i in range(tasks)]:
        fleet.result(handle)
    found["task_ms"] = (time.perf_counter() - started) / tasks * 1e3
    me = psutil.Process()
    found["pss_mb"] = pss_mb([me, *me.children(recursive=True)])
    where = folder / "pid"
    handle = fleet.submit(sleep_long, str(where))
    while not where.exists() or not where.read_text():
        time.sleep(0.01)
    os.kill(int(where.read_text()), signal.SIGKILL)
    started = time.perf_counter()
    # Dask runs the task elsewhere by itself, so the next worker is killed too, until it gives up.
    kills, told = 1, None
    while told is None and kills < 8:
        where.unlink(missing_ok=True)
        try:
            told = _wait(fleet, handle, where)
        except Exception as error:  # noqa: BLE001 - what it raises is what is asked
            told = type(error).__name__
        if told is None:
            kills += 1
            os.kill(int(where.read_text()), signal.SIGKILL)
    found["worker_killed"] = f"{told} after {kills} kills, {time.perf_counter() - started:.2f} s"
    started = time.perf_counter()
    fleet.result(fleet.submit(nothing, 0))
    found["again_s"] = time.perf_counter() - started
    fleet.close()
    return found


def _wait(fleet, handle, where: Path) -> str | None:
    """None once the task runs again elsewhere; else what came of it."""
    import threading

    ended: list[object] = []

    def ask() -> None:
        try:
            fleet.result(handle)
            ended.append("finished")
        except Exception as error:  # noqa: BLE001
            ended.append(type(error).__name__)

    threading.Thread(target=ask, daemon=True).start()
    while not ended:
        if where.exists() and where.read_text():
            return None
        time.sleep(0.01)
    return str(ended[0])


def left_behind(name: str, folder: Path) -> int:
    """Processes that outlive a killed driver by 10 s."""
    where = folder / "driven"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "if __name__ == '__main__':\n"
        f"    import fleet_spike as spike; fleet = spike.FLEETS[{name!r}]()\n"
        f"    fleet.result(fleet.submit(spike.sleep_long, {str(where)!r}))\n"
    )
    script = folder / "driver.py"
    script.write_text(code, encoding="utf-8")
    driver = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    while not where.exists() or not where.read_text():
        time.sleep(0.05)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, 10)
    for process in alive:
        process.kill()
    return len(alive)


@click.command()
@click.argument("name", type=click.Choice(sorted(FLEETS)))
@click.option("--tasks", default=500, show_default=True)
def main(name: str, tasks: int) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(name, tasks, Path(folder))
        found["left"] = left_behind(name, Path(folder))
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
