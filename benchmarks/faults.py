"""Kills and full disks, many times: nothing half-written may be believed, and nothing may be left behind.

    python benchmarks/faults.py [--kills 200] [--disks 20] [--jobs convert,fetch,save,cache,compile]
    python benchmarks/faults.py --jobs convert,cache --source smollm2-135m --bundle BUNDLE --kills 8 --disks 0

Every job runs in a process of its own (`workers/fault_jobs.py`) in an empty home. Half of the kills come at
a random moment, half before a random operation on files, so that every gap between two operations is met.
Then the job runs again, undisturbed: it must accept or replace whatever is there, compute what a run without
faults computes, and leave the same files and no others, in the system's temporary folder too. Disks are file
systems in memory, with a little more room in each run, so that each write is the one that does not fit; where
mounting is not allowed, the size of files is limited instead. There each run must end well or with one line.
It ends with status 1 if one of that did not hold.
"""

import dataclasses
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from workers.fault_jobs import JOBS, TINY, make_wheel

WORKER = Path(__file__).parent / "workers" / "fault_jobs.py"
LIMIT_S = 900
_REPLACED = ("convert", "save", "compile")
"""Jobs that replace what an earlier run left; the others would only find it."""


@dataclasses.dataclass
class Outcome:
    """How one run ended.

    Attributes:
        code: exit status; negative for a signal.
        lines: on standard error.
        document: what the job printed.
        seconds: wall time.
    """

    code: int
    lines: list[str]
    document: dict[str, object] | None
    seconds: float

    @property
    def is_one_line(self) -> bool:
        """Whether it failed as a command should: one line, status 1."""
        errors = [line for line in self.lines if line.startswith("error: ")]
        return self.code == 1 and len(errors) == 1 and not any("Traceback" in line for line in self.lines)


@dataclasses.dataclass
class Row:
    """What a job has shown."""

    job: str
    kills: int = 0
    kills_in_files: int = 0
    ended_before: int = 0
    disks: int = 0
    finished: int = 0
    one_line: int = 0
    complaints: list[str] = dataclasses.field(default_factory=list)


class Bench:
    """Runs jobs and faults in folders of its own."""

    def __init__(self, scratch: Path, source: str, bundle: Path | None, seed: int) -> None:
        """Prepares the bundles that some jobs need."""
        self._scratch = scratch
        self._draw = random.Random(seed)
        self._wheels = scratch / "wheels"
        self._wheels.mkdir()
        make_wheel(self._wheels)
        self._sources = {"convert": source, "fetch": "-"}
        self._bundle = bundle
        self._references: dict[str, tuple[Outcome, list[str]]] = {}

    def reference(self, job: str) -> tuple[Outcome, list[str]]:
        """An undisturbed second run, and the files that it leaves."""
        if job not in self._references:
            home = self.new_home(job)
            first = self.run(job, home)
            if first.code:
                raise click.ClickException(f"{job} fails without faults: {first.lines[-1:]}")
            self._references[job] = first, files_of(home)
        return self._references[job]

    def new_home(self, name: str) -> Path:
        """An empty home."""
        home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._scratch))
        make_home(home)
        return home

    def run(
        self,
        job: str,
        home: Path,
        *,
        die_before: int | None = None,
        kill_after_s: float | None = None,
        largest_file: int | None = None,
    ) -> Outcome:
        """Runs a job once, with at most one fault."""

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [sys.executable, str(WORKER), job, str(home), "--source", self._source(job)]
        if die_before is not None:
            command += ["--die-before", str(die_before)]
        environment = {
            **os.environ,
            "EDGESDK_CACHE": str(home / "cache"),
            "TMPDIR": str(home / "tmp"),
            "PIP_FIND_LINKS": str(self._wheels),
            "PIP_NO_INDEX": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            preexec_fn=limit,
        )
        try:
            out, err = process.communicate(timeout=kill_after_s or LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        try:
            document = json.loads(out.splitlines()[-1]) if process.returncode == 0 else None
        except (ValueError, IndexError):
            document = None
        return Outcome(process.returncode, err.splitlines(), document, time.perf_counter() - started)

    def kill(self, job: str, row: Row) -> None:
        """Kills a job, runs it again and looks at what there is."""
        reference, names = self.reference(job)
        home = self.new_home(job)
        if job in _REPLACED and self._draw.random() < 0.5:  # something is there already
            self.run(job, home)
        if row.kills % 2:
            operations = int(str((reference.document or {})["operations"]))
            moment = self._draw.randint(1, operations)
            killed, what = self.run(job, home, die_before=moment), f"operation {moment}"
        else:
            seconds = self._draw.uniform(0.2, 1.0) * reference.seconds
            killed, what = self.run(job, home, kill_after_s=seconds), f"{seconds:.2f} s"
        row.kills += 1
        row.kills_in_files += "operation" in what and killed.code == -9
        row.ended_before += killed.code == 0
        self._look(job, home, row, f"killed before {what}", names)

    def fill(self, job: str, row: Row, disk: Path | None, room: int) -> None:
        """Runs a job with little room, then again with enough."""
        _, names = self.reference(job)
        if disk is None:
            home = self.new_home(job)
            tried = self.run(job, home, largest_file=room)
        else:
            resize(disk, room)
            home = disk / "home"
            home.mkdir()
            make_home(home)
            tried = self.run(job, home)
        row.disks += 1
        row.finished += tried.code == 0
        row.one_line += tried.is_one_line
        if tried.code and not tried.is_one_line:
            row.complaints.append(f"{room} bytes of room: status {tried.code}, {tried.lines[-3:]}")
        left = [name for name in files_of(home) if name not in names]
        if left:
            row.complaints.append(f"{room} bytes of room: left {left[:3]}")
        if disk is not None:
            resize(disk, None)
        self._look(job, home, row, f"{room} bytes of room", names)
        if disk is not None:
            subprocess.run(["rm", "-rf", str(home)], check=True)

    def _look(self, job: str, home: Path, row: Row, what: str, names: list[str]) -> None:
        reference, _ = self.reference(job)
        again = self.run(job, home)
        expected, found = (reference.document or {})["answer"], (again.document or {}).get("answer")
        if again.code or found != expected:
            row.complaints.append(f"{what}: the next run gives status {again.code}, {again.lines[-2:]}")
        left = sorted(set(files_of(home)) ^ set(names))
        if left:
            row.complaints.append(f"{what}: after the next run {left[:3]} differ")

    def _source(self, job: str) -> str:
        if job in ("save", "cache") and self._bundle is not None:
            return str(self._bundle)
        if job not in self._sources:
            self._sources[job] = str(
                convert_tiny(self._scratch, "onnx-npu" if job == "compile" else "litert")
            )
        return self._sources[job]


def convert_tiny(scratch: Path, target: str) -> Path:
    """A small bundle."""
    from edgesdk_converters.convert import ConvertOptions, convert

    path = scratch / f"bundle-{target}"
    if not path.exists():
        convert(str(TINY), path, ConvertOptions((target,), ("w8-round",), 64, prove=False))
    return path


def make_home(home: Path) -> None:
    """The folders of a home."""
    for name in ("out", "cache", "tmp"):
        (home / name).mkdir()


def files_of(home: Path) -> list[str]:
    """Files and empty folders below a home; what is named by the moment has its place alone."""
    found = []
    for path in home.rglob("*"):
        if path.is_dir() and any(path.iterdir()):
            continue
        name = str(path.relative_to(home))
        found.append("cache/integrity/*" if name.startswith("cache/integrity") else name)
    return sorted(set(found) - {"cache/xnnpack", "cache/models", "cache/integrity/*", "cache", "out", "tmp"})


@contextmanager
def small_disk(scratch: Path) -> Iterator[Path | None]:
    """A file system in memory; None where mounting is not allowed."""
    disk = scratch / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def resize(disk: Path, room: int | None) -> None:
    """Gives a file system in memory some size; None for plenty."""
    size = f"{max(room, 4096)}" if room is not None else "1g"
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True, capture_output=True)


def rooms(needed: int, count: int) -> list[int]:
    """Sizes from next to nothing to a little more than is needed."""
    return [int(4096 + (needed * 1.1 - 4096) * i / max(count - 1, 1)) for i in range(count)]


def used_bytes(home: Path) -> int:
    """What the files below a home take."""
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


@click.command()
@click.option("--kills", default=200, show_default=True, help="Over all jobs together.")
@click.option("--disks", default=20, show_default=True, help="Sizes of disks, for each job.")
@click.option("--jobs", default=",".join(JOBS), show_default=True)
@click.option("--source", default=str(TINY), help="Checkpoint to convert. Default: a tiny one.")
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="To load. Default: a tiny one.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(
    kills: int, disks: int, jobs: str, source: str, bundle: Path | None, seed: int, json_file: Path | None
) -> None:
    """Prints a row for each job; status 1 if anything was half-written, believed or left."""
    from edgesdk.bundle.write_file import write_file

    names = jobs.split(",")
    rows = {name: Row(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        scratch = Path(folder)
        bench = Bench(scratch, source, bundle, seed)
        for i in range(kills):
            name = names[i % len(names)]
            bench.kill(name, rows[name])
        with small_disk(scratch) as disk:
            for name in names if disks else ():
                home = bench.new_home(name)
                bench.run(name, home)
                # Drafts and what they replace are there at once.
                for room in rooms(2 * used_bytes(home), disks):
                    bench.fill(name, rows[name], disk, room)
    show(list(rows.values()))
    if json_file is not None:
        write_file(json_file, json.dumps([dataclasses.asdict(row) for row in rows.values()], indent=1) + "\n")
    if any(row.complaints for row in rows.values()):
        sys.exit(1)


def show(rows: list[Row]) -> None:
    """Prints the table, then what did not hold."""
    header = ("job", "kills", "in files", "too late", "disks", "finished", "one line", "complaints")
    print(" | ".join(header))
    for row in rows:
        figures = (row.kills, row.kills_in_files, row.ended_before, row.disks, row.finished, row.one_line)
        print(" | ".join((row.job, *map(str, figures), str(len(row.complaints)))))
    for row in rows:
        for complaint, count in Counter(row.complaints).items():
            print(f"{row.job}: {complaint}" + (f" ({count} times)" if count > 1 else ""))


if __name__ == "__main__":
    main()
