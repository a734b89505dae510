"""What a sweep costs beside the same work in plain processes.

    python benchmarks/sweep_overhead.py tests/data/tiny/llama --cells 8
    python benchmarks/sweep_overhead.py smollm2.gguf --cells 2 --tokens 50000 --rounds 1  # cells of a minute

The same texts are scored with one bundle by `edgesdk eval`, a process for each, one after the other, and by
`edgesdk sweep --on processes --workers 1` as cells. Conversions are done before the clock starts. Reported,
as JSON: seconds of wall clock and of processor (all processes) of both, the difference for a cell, and that
over a minute: what a cell of a minute pays. On a busy machine the processor's time is the one to read.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

HEAD = """
context = 256
sources = [{{ name = "model", path = "{source}" }}]
recipes = ["w8-round"]
targets = ["litert"]
devices = [{{ name = "here", threads = 1 }}]
"""
FIRST = '[[tasks]]\nkind = "bench"\nprompt_tokens = 8\nnew_tokens = 4\nrepeat = 1\n'
CELL = """[[tasks]]
name = "text {i}"
kind = "evaluate"
text = "text-{i}.txt"
tokens = {tokens}
window = 128
reference = false
"""

_MOST_LETTERS = 8
"""Of a token, about: so that a text holds as many tokens as are asked for."""


def edgesdk(*arguments: object) -> None:
    command = [sys.executable, "-m", "edgesdk", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(done.stderr[-500:])


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of wall clock, and of processor in children."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before, started = spent(), time.perf_counter()
    work()
    return time.perf_counter() - started, spent() - before


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--cells", default=8, show_default=True)
@click.option("--tokens", default=400, show_default=True, help="of each text")
@click.option("--rounds", default=3, show_default=True, help="of both, in turn")
def main(source: Path, cells: int, tokens: int, rounds: int) -> None:
    """Compares cells with plain processes on SOURCE."""
    from edgesdk_converters.parity.prove import passages

    text = "\n\n".join(passages())
    text *= 1 + tokens * _MOST_LETTERS // len(text)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["EDGESDK_CACHE"] = str(folder / "cache")
        for i in range(cells):
            (folder / f"text-{i}.txt").write_text(text[i * 50 :], encoding="utf-8")
        plan = folder / "plan.toml"
        head = HEAD.format(source=source.resolve().as_posix())
        plain, swept = [], []
        for number in range(rounds):
            out = folder / f"out-{number}"
            plan.write_text(head + FIRST, encoding="utf-8")
            edgesdk("sweep", plan, out)
            (bundle,) = (out / "bundles").iterdir()
            plan.write_text(
                head + "".join(CELL.format(i=i, tokens=tokens) for i in range(cells)), encoding="utf-8"
            )

            def alone(bundle: Path = bundle) -> None:
                for i in range(cells):
                    options = ("--tokens", tokens, "--window", 128, "--threads", 1)
                    edgesdk("eval", bundle, "--text", folder / f"text-{i}.txt", *options)

            plain.append(timed(alone))
            swept.append(
                timed(lambda out=out: edgesdk("sweep", plan, out, "--on", "processes", "--workers", 1))
            )
    wall = [min(times) for times in (zip(*plain, strict=True))]
    other = [min(times) for times in (zip(*swept, strict=True))]
    a_cell = [(b - a) / cells for a, b in zip(wall, other, strict=True)]
    report = {
        "cells": cells,
        "plain_wall_s": wall[0],
        "plain_processor_s": wall[1],
        "sweep_wall_s": other[0],
        "sweep_processor_s": other[1],
        "cell_wall_s": a_cell[0],
        "cell_processor_s": a_cell[1],
        "share_of_a_minute": a_cell[1] / 60,
    }
    click.echo(json.dumps(report))


if __name__ == "__main__":
    main()
