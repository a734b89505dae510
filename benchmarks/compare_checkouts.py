"""Whether two checkouts give the same to the last bit: weights, logits and tokens.

    python benchmarks/compare_checkouts.py OLD NEW [--only litert,onnx] [--jobs 2] [--recipes f32,w8]

OLD and NEW are folders of the repository. Each is run in processes of its own, with caches of its own and
the same seeds; the packages around are those of this environment. For every tiny checkpoint, recipe and
target (`checkout_jobs.py`) both convert, and every backend that runs here is asked for logits (a text whole,
in pieces, and again from half way), for greedy and seeded tokens through `Model`, and for those of several
requests at once, of samples, prefixes and sessions through `Engine`. What the files of a bundle are called
and how they are laid out may differ: their bytes are compared too, but only reported.

Exits 1 where anything differs. Only `edgesdk convert`, `edgesdk devices` and the public API are used.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from checkout_jobs import RECIPES, TARGETS, Job, list_jobs

WORKER = Path(__file__).parent / "workers" / "checkout_worker.py"
MOST_NAMES = 3


@dataclass(frozen=True)
class Found:
    """What one checkout gave for a job.

    Attributes:
        rows: by label of the conversion.
        logits: by label, backend and name, joined by `|`.
    """

    rows: dict[str, dict]
    logits: dict[str, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """One combination; each text is empty where both are the same.

    Attributes:
        name: checkpoint, label of the conversion, target and backend.
        weights: what differs in the arrays of the written files.
        logits: what differs in logits.
        tokens: what differs in answers.
        files: how many files of the bundle have the same bytes; information.
    """

    name: tuple[str, str, str, str]
    weights: str
    logits: str
    tokens: str
    files: str

    @property
    def differs(self) -> bool:
        """Whether anything does that must not."""
        return bool(self.weights or self.logits or self.tokens)


def run(checkout: Path, job: Job, out: Path) -> Found | str:
    """One checkout's answers to a job, or why there are none."""
    out.mkdir(parents=True)
    document = {"source": job.path, "conversions": job.conversions}
    (out / "job.json").write_text(json.dumps(document), encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(checkout), str(checkout / "converters"))),
        "EDGESDK_CACHE": str(out / "cache"),
        "EDGESDK_MODELS": str(out / "models"),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    command = [sys.executable, str(WORKER), str(out / "job.json"), str(out)]
    ended = subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or ["no word"]
        return f"its process ended with {ended.returncode}: {lines[-1]}"
    rows = json.loads((out / "found.json").read_text(encoding="utf-8"))
    source = rows.pop("edgesdk")["from"]
    if Path(source).resolve() != checkout.resolve():
        raise click.ClickException(f"edgesdk came from {source}, expected {checkout}")
    with np.load(out / "logits.npz") as arrays:
        return Found(rows, dict(arrays))


def compare(job: Job, old: Found | str, new: Found | str) -> Iterator[Compared]:
    """The combinations of a job: one for each conversion and backend that ran on either side."""
    if isinstance(old, str) or isinstance(new, str):
        why = " / ".join(each if isinstance(each, str) else "ran" for each in (old, new))
        yield Compared((job.source, "all", job.target, "-"), why, "", "", "")
        return
    for label in job.conversions:
        one, other = old.rows[label], new.rows[label]
        if "failed" in one or "failed" in other:
            words = [row.get("failed", "converted") for row in (one, other)]
            # Both refuse: their words may have been improved, and are shown as information.
            differs = "" if all("failed" in row for row in (one, other)) else " / ".join(words)
            yield Compared((job.source, label, job.target, "-"), differs, "", "", words[0][:80])
            continue
        weights = _unlike_weights(one["weights"], other["weights"])
        names = one["files"].keys() | other["files"].keys()
        same = sum(one["files"].get(name) == other["files"].get(name) for name in names)
        for backend in dict.fromkeys((*one["backends"], *other["backends"])):
            sides = [row["backends"].get(backend, {"refused": "unknown backend"}) for row in (one, other)]
            if all("refused" in side for side in sides):
                continue
            found = Compared(
                (job.source, label, job.target, backend), weights, "", "", f"{same} of {len(names)}"
            )
            if any("refused" in side for side in sides):
                words = " / ".join(side.get("refused", "ran") for side in sides)
                yield Compared(found.name, weights, words, "", found.files)
                continue
            logits = _unlike_logits(old.logits, new.logits, f"{label}|{backend}|")
            tokens = _unlike_answers(*(side["answers"] for side in sides))
            yield Compared(found.name, weights, logits, tokens, found.files)


def _unlike_weights(old: dict[str, str], new: dict[str, str]) -> str:
    """Names of arrays that one side alone has, by their digests."""
    parts = []
    for side, names in (
        ("old", [old[digest] for digest in old.keys() - new.keys()]),
        ("new", [new[digest] for digest in new.keys() - old.keys()]),
    ):
        if names:
            more = ", ..." if len(names) > MOST_NAMES else ""
            parts.append(f"{len(names)} {side} only: {', '.join(sorted(names)[:MOST_NAMES])}{more}")
    return "; ".join(parts)


def _unlike_logits(old: dict[str, np.ndarray], new: dict[str, np.ndarray], prefix: str) -> str:
    """How far apart logits are, by name."""
    parts = []
    for key in sorted(name for name in old.keys() | new.keys() if name.startswith(prefix)):
        name, one, other = key.removeprefix(prefix), old.get(key), new.get(key)
        if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
            shapes = [None if each is None else f"{each.dtype} {each.shape}" for each in (one, other)]
            parts.append(f"{name} {shapes[0]} / {shapes[1]}")
        elif one.tobytes() != other.tobytes():
            parts.append(f"{name} by {np.abs(one - other).max():.2g} of {np.abs(one).max():.2g}")
    return "; ".join(parts)


def _unlike_answers(old: dict[str, object], new: dict[str, object]) -> str:
    return ", ".join(name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _chosen(text: str | None, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if text is None:
        return known
    names = tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"{what} {unknown[0]!r} is unknown; expected {', '.join(known)}")
    return names


@click.command(help=__doc__)
@click.argument("old", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("new", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--only", metavar="LIST", help="Targets, joined by commas. Default: all.")
@click.option("--recipes", metavar="LIST", help="Recipes, joined by commas. Default: all.")
@click.option("--sources", metavar="LIST", help="Parts of the names of tiny checkpoints. Default: all.")
@click.option(
    "--source", "more", multiple=True, help="Another checkpoint, e.g. a GGUF file; may be repeated."
)
@click.option("--thorough", is_flag=True, help="Every source in every recipe; else most in three each.")
@click.option("--jobs", default=2, show_default=True, help="Processes at once.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the table there too.")
def main(
    old: Path,
    new: Path,
    only: str | None,
    recipes: str | None,
    sources: str | None,
    more: tuple[str, ...],
    thorough: bool,
    jobs: int,
    path: Path | None,
) -> None:
    """Compares, and prints a table."""
    checkouts = (old.resolve(), new.resolve())
    targets = _chosen(only, TARGETS, "target")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        root = Path(folder)
        (root / "sources").mkdir()
        parts = [part.strip() for part in (sources or "").split(",") if part.strip()]
        wanted = _chosen(recipes, RECIPES, "recipe")
        work = list_jobs(root / "sources", targets, wanted, parts, more, thorough)
        asked = [
            [
                pool.submit(run, checkout, job, root / f"{index}-{side}")
                for side, checkout in enumerate(checkouts)
            ]
            for index, job in enumerate(work)
        ]
        found: list[Compared] = []
        for index, (job, sides) in enumerate(zip(work, asked, strict=True), start=1):
            here = list(compare(job, *(side.result() for side in sides)))
            found += here
            differing = sum(each.differs for each in here)
            click.echo(
                f"[{index}/{len(work)}] {job.source} {job.target}: {len(here)}, {differing} differ", err=True
            )
            for each in here:
                if each.differs:
                    click.echo(f"    {each}", err=True)
    header = ("checkpoint", "recipe", "target", "backend", "weights", "logits", "tokens", "files alike")
    words = [
        (*each.name, *(text or "same" for text in (each.weights, each.logits, each.tokens)), each.files)
        for each in found
    ]
    for line in _table([header, *words]):
        click.echo(line)
    if path is not None:
        path.write_text(json.dumps([dict(zip(header, row, strict=True)) for row in words], indent=1))
    differing = sum(each.differs for each in found)
    click.echo(f"{len(found)} combinations, {differing} differ")
    raise SystemExit(1 if differing else 0)


if __name__ == "__main__":
    main()
