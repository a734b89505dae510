"""What streams add to a step: rows in the top blocks only, beside rows in all blocks of the same file.

    python benchmarks/stream_step_cost.py BUNDLE [--recipe w8-round] [--cells 400] [--rounds 9]

BUNDLE is of a model with streams of the form `streams`, trained or not: what they say does not matter here. A
step of n tokens, drafts among them, with m streams behind its last one, is run both ways in turn, with logits
after each row, and so are steps without streams. By processor time with one thread; medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

import edgesdk
from edgesdk.backends.protocol import Cells, StepBackend, StepBuffers
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_shape import MAIN, StepShape
from edgesdk.bundle.stream_part import TOP
from edgesdk.kv.step_model import steps_of
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner

STEPS = (
    *((1, 0), (1, 1), (1, 2), (1, 3)),
    *((2, 4), (3, 2), (3, 3), (4, 4), (4, 6)),
    *((5, 3), (5, 5), (5, 10), (8, 8)),
)
"""Tokens and streams."""

HEAD = "| tokens | streams | rows in all blocks | in the top blocks | top over all |"
RULE = "|---|---|---|---|---|"


class Whole:
    """A backend without its two parts."""

    def __init__(self, backend: StepBackend) -> None:
        self._backend = backend

    @property
    def contracts(self) -> Mapping[str, StepContract]:
        return {MAIN: self._backend.contracts[MAIN]}

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        return tuple(shape for shape in self._backend.shapes if shape.stack == MAIN)

    def buffers(self, shape: StepShape) -> StepBuffers:
        return self._backend.buffers(shape)

    def run(self, shape: StepShape, cells: Cells) -> None:
        self._backend.run(shape, cells)

    def close(self) -> None:
        self._backend.close()


def chain(tokens: int, streams: int) -> DraftTree | None:
    """Drafts behind one token, and streams behind the last of them; each stream follows the one before."""
    rows = tokens - 1 + streams
    if not rows:
        return None
    numbers = [0] * (tokens - 1) + [1 + i % 3 for i in range(streams)]
    parents = [
        row - 1 if row < tokens - 1 or numbers[row] > 1 else tokens - 2 - (row - tokens + 1) // 3
        for row in range(rows)
    ]
    parents = [max(parent, -1) for parent in parents]
    return DraftTree(np.full(rows, 7, np.int32), np.array(parents, np.int32), np.array(numbers, np.int32))


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", default="w8-round", show_default=True)
@click.option("--backend", default="litert", show_default=True)
@click.option("--cells", default=400, show_default=True, help="Tokens before the step.")
@click.option("--rounds", default=9, show_default=True)
def main(bundle: Path, recipe: str, backend: str, cells: int, rounds: int) -> None:
    """Prints the time of steps with streams, both ways."""
    with edgesdk.load(bundle, recipe=recipe, backend=backend, threads=1, strict=True) as model:
        steps = steps_of(model.backend)
        if steps is None or TOP not in steps.contracts:
            raise click.ClickException(f"{bundle} has no streams in its top blocks only")
        text = np.random.default_rng(0).integers(100, model.decoder.vocab_size, cells).astype(np.int32)
        runners = {
            name: StepRunner(run_by, model.decoder, 1024)
            for name, run_by in (("all", Whole(steps)), ("top", steps))
        }
        lists = {}
        for name, runner in runners.items():
            lists[name] = runner.new_list()
            done = 0
            while done < cells:
                count = runner.piece(cells - done)
                runner.run([StepEntry(lists[name], text[done : done + count], "none")])
                done += count
        spent: dict[tuple[str, int, int], list[float]] = {}
        for number in range(rounds + 1):
            for n, m in STEPS:
                for name in ("all", "top"):
                    entry = StepEntry(lists[name], text[:1], "last", chain(n, m))
                    began = time.process_time()
                    runners[name].run([entry])
                    if number:
                        spent.setdefault((name, n, m), []).append((time.process_time() - began) * 1e3)
                    lists[name].truncate(cells)
        found = {key: statistics.median(times) for key, times in spent.items()}
        one = found["all", 1, 0]
        click.echo(f"{model.receipt}\none token: {one:.1f} ms of processor time, {cells} cells\n")
        click.echo(HEAD)
        click.echo(RULE)
        for n, m in STEPS:
            both = found["all", n, m], found["top", n, m]
            ratios = both[0] / one, both[1] / one, both[1] / both[0]
            click.echo("| " + " | ".join([str(n), str(m), *(f"{ratio:.2f}" for ratio in ratios)]) + " |")


if __name__ == "__main__":
    main()
