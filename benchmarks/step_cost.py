"""What a step of T tokens costs, over one token: v(T), with logits after every token.

    python benchmarks/step_cost.py BUNDLE [--against CHECKOUT OTHER] [--threads 1] [--json FILE]

Speculation, beams and streams that decode together pay v(T) for T tokens. Every variant of BUNDLE that runs
on LiteRT or ONNX Runtime here is a process that stays loaded; with `--against`, so is the same variant of the
bundle OTHER under another checkout of edgesdk (a file may have other sizes there). All of them run the same
step one straight after the other, then the next step, so that a change of the machine's speed meets all of
them, and v(T) is the median of ratios that are taken within a round. Processor time is told beside wall time:
with one thread it is what the step took even where others use the machine.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from contender import Contender, ContenderError, turned

from edgesdk.bundle.reader import open_bundle
from edgesdk.devices.cpu import instruction_sets
from edgesdk.errors import EdgeError

BACKENDS = {"litert": "litert", "onnx-resident": "onnxruntime", "onnx-step": "onnxruntime-step"}
TOKENS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
CELLS = (400, 1800)
KINDS = ("wall", "cpu")
ROOT = Path(__file__).resolve().parents[1]
TELLING = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "asimddp", "i8mm")
"""Instruction sets that decide what a product of a few rows costs."""


@dataclass(frozen=True)
class Cost:
    """One size of one contender.

    Attributes:
        contender: variant, and of which checkout.
        cells: tokens before the step.
        tokens: T.
        wall_ms: least over the rounds.
        cpu_ms: likewise, of all threads together.
        wall_v: median over the rounds of the time over that of one token in the same round.
        cpu_v: likewise.
    """

    contender: str
    cells: int
    tokens: int
    wall_ms: float
    cpu_ms: float
    wall_v: float
    cpu_v: float


def contenders(
    bundle: Path, checkout: Path, threads: int, wanted: Sequence[str], suffix: str
) -> Iterator[Contender]:
    """A process for each variant that can be measured.

    Raises:
        ContenderError: one of them ended early.
    """
    opened = open_bundle(bundle)
    for variant in opened.manifest.variants:
        if variant.format not in BACKENDS or (wanted and variant.name not in wanted):
            continue
        settings = {
            "model": str(bundle.resolve()),
            "backend": BACKENDS[variant.format],
            "variant": variant.name,
            "threads": threads,
            "context": variant.context,
            "vocab_size": opened.manifest.decoder.vocab_size,
        }
        path = os.pathsep.join((str(checkout), str(checkout / "converters")))
        yield Contender(
            f"{variant.name}{suffix}", "step_worker.py", settings, environment={"PYTHONPATH": path}
        )


def measure(
    running: Sequence[Contender], cells: Sequence[int], tokens: Sequence[int], rounds: int
) -> list[Cost]:
    """Runs every size in turn.

    Raises:
        ContenderError: one of them ended early.
    """
    found: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    for held in cells:
        for number in range(rounds):
            for count in tokens:
                for contender in turned(running, number):
                    figures = contender.measure(held, count)
                    found.setdefault((contender.name, held, count), []).append(figures)
    costs = []
    for (name, held, count), figures in found.items():
        ones = found[name, held, tokens[0]]
        ratios = {
            kind: statistics.median(
                mine[f"{kind}_ms"] / one[f"{kind}_ms"] for mine, one in zip(figures, ones, strict=True)
            )
            for kind in KINDS
        }
        least = {kind: min(f[f"{kind}_ms"] for f in figures) for kind in KINDS}
        costs.append(Cost(name, held, count, least["wall"], least["cpu"], ratios["wall"], ratios["cpu"]))
    return costs


def show(costs: Sequence[Cost], tokens: Sequence[int]) -> None:
    """Prints tables that can go into a document as they are."""
    for held in dict.fromkeys(cost.cells for cost in costs):
        click.echo(f"\n{held} cells: milliseconds of one token, then v(T), by wall time / processor time\n")
        click.echo(f"| | one | {' | '.join(f'v({count})' for count in tokens[1:])} |")
        click.echo(f"|---|{'---|' * len(tokens)}")
        for name in dict.fromkeys(cost.contender for cost in costs):
            mine = {c.tokens: c for c in costs if (c.contender, c.cells) == (name, held)}
            one = mine[tokens[0]]
            row = [name, f"{one.wall_ms:.1f} / {one.cpu_ms:.1f}"]
            row += [f"{mine[count].wall_v:.2f} / {mine[count].cpu_v:.2f}" for count in tokens[1:]]
            click.echo(f"| {' | '.join(row)} |")


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--against",
    nargs=2,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="another checkout, and a bundle that it runs",
)
@click.option("--variants", default="", help="only these, joined by commas; default: all that run here")
@click.option("--tokens", default=",".join(map(str, TOKENS)), show_default=True, help="T; the first is 1")
@click.option("--cells", default=",".join(map(str, CELLS)), show_default=True, help="tokens before the step")
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures to this file")
def main(
    bundle: Path,
    against: tuple[Path, Path] | None,
    variants: str,
    tokens: str,
    cells: str,
    rounds: int,
    threads: int,
    json_file: Path | None,
) -> None:
    """Prints v(T) of every variant of BUNDLE."""
    wanted = [name for name in variants.split(",") if name]
    try:
        counts, helds = ([int(number) for number in text.split(",")] for text in (tokens, cells))
    except ValueError as error:
        raise click.ClickException(f"tokens and cells are whole numbers joined by commas: {error}") from error
    if counts[0] != 1:
        raise click.ClickException(f"the first T is {counts[0]}, expected 1, which the others are put over")
    running: list[Contender] = []
    try:
        running.extend(contenders(bundle, ROOT, threads, wanted, ""))
        if against:
            running.extend(contenders(against[1], against[0], threads, wanted, ", against"))
        if not running:
            raise click.ClickException(f"{bundle.name} has nothing to measure here")
        costs = measure(running, helds, counts, rounds)
    except (EdgeError, ContenderError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        for contender in running:
            contender.close()
    present = [name for name in TELLING if name in instruction_sets()]
    sets = " ".join(present) or "none of those that tell"
    click.echo(f"{threads} thread{'s' * (threads > 1)}, instruction sets: {sets}")
    show(costs, counts)
    if json_file is not None:
        document = {"threads": threads, "sets": present, "costs": [vars(cost) for cost in costs]}
        json_file.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
