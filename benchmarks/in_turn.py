"""Loads, prompts and decoding of variants, or of two checkouts, by whole processes in turn.

    python benchmarks/in_turn.py litert-w8=BUNDLE litert-w8-exact=OTHER [--pairs 11] [--threads 1]
    python benchmarks/in_turn.py litert-w8-round=BUNDLE --base CHECKOUT litert-w8-round=OLD

Each contender is a variant of a bundle. In every round each has a new process, which loads the variant (the
first time, and again), reads a prompt and decodes after it. The others are put over the first one, or over
`--base`, which runs under another folder of the repository: ratios are taken within a round, so that a change
of the machine's speed meets both, and their median and quartiles over the rounds are told. Processor time, of
all threads together, stands beside wall time: with one thread it is what the work took even where others use
the machine. The packages around are those of this environment.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from contender import WORKERS, turned
from step_cost import BACKENDS, ROOT

from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import EdgeError

FIGURES = ("first load", "load", "prompt", "decode")
KINDS = ("wall", "processor")

Figures = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Side:
    """A contender.

    Attributes:
        name: for the table.
        checkout: folder of the repository that runs it.
        settings: of its worker.
    """

    name: str
    checkout: Path
    settings: dict[str, str | int]

    def run(self, cache: Path) -> Figures:
        """One process from its start to its end.

        Args:
            cache: folder for what the checkout keeps.

        Raises:
            click.ClickException: it failed.
        """
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(self.checkout), str(self.checkout / "converters"))),
            "EDGESDK_CACHE": str(cache),
        }
        command = [sys.executable, str(WORKERS / "turn_worker.py"), json.dumps(self.settings)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or ["it said nothing"]
            raise click.ClickException(f"{self.name} ended with {ended.returncode}: {lines[-1]}")
        return json.loads(ended.stdout.splitlines()[-1])


def read_side(text: str, checkout: Path, prompt: int, new: int, threads: int) -> Side:
    """A contender from `VARIANT=BUNDLE`.

    The manifest is read as it lies there: that of another checkout may have another form.

    Raises:
        click.ClickException: it names no variant that runs here.
    """
    name, found, folder = text.partition("=")
    if not found:
        raise click.ClickException(f"{text!r} is no VARIANT=BUNDLE such as litert-w8=my-bundle")
    path = Path(folder).resolve()
    if checkout == ROOT:
        open_bundle(path)
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        formats = {variant["name"]: variant["format"] for variant in manifest["variants"]}
        vocabulary = manifest["decoder"]["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{path} has no manifest that can be read: {error}") from error
    if formats.get(name) not in BACKENDS:
        able = ", ".join(each for each, kind in formats.items() if kind in BACKENDS) or "none"
        raise click.ClickException(f"{path} has no variant {name!r} that runs here; found {able}")
    settings: dict[str, str | int] = {
        "model": str(path),
        "variant": name,
        "backend": BACKENDS[formats[name]],
        "threads": threads,
        "vocab_size": vocabulary,
        "prompt": prompt,
        "new": new,
    }
    return Side(name if checkout == ROOT else f"{name}, {checkout.name}", checkout, settings)


def ratios(rounds: list[list[Figures]], side: int, figure: str, kind: int) -> tuple[float, float, float]:
    """First quartile, median and third quartile of one contender over the first."""
    found = [each[side][figure][kind] / each[0][figure][kind] for each in rounds]
    if len(found) == 1:
        return found[0], found[0], found[0]
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return low, median, high


def show(sides: list[Side], rounds: list[list[Figures]]) -> None:
    """Prints tables that can go into a document as they are."""
    for kind, word in enumerate(KINDS):
        click.echo(
            f"\n{word} time, {len(rounds)} rounds: median of milliseconds, then of ratios (quartiles)\n"
        )
        click.echo(f"| | {' | '.join(FIGURES)} |")
        click.echo(f"|---|{'---|' * len(FIGURES)}")
        for number, side in enumerate(sides):
            cells = []
            for figure in FIGURES:
                cell = f"{statistics.median(each[number][figure][kind] for each in rounds):.1f}"
                if number:
                    low, median, high = ratios(rounds, number, figure, kind)
                    cell += f", {median:.3f} ({low:.3f} to {high:.3f})"
                cells.append(cell)
            click.echo(f"| {side.name} | {' | '.join(cells)} |")


@click.command()
@click.argument("variants", metavar="VARIANT=BUNDLE...", nargs=-1, required=True)
@click.option(
    "--base",
    nargs=2,
    metavar="CHECKOUT VARIANT=BUNDLE",
    help="another checkout, and what it runs: the others are put over it",
)
@click.option("--pairs", default=11, show_default=True, type=click.IntRange(min=1), help="rounds")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--prompt", default=128, show_default=True, type=click.IntRange(min=1), help="tokens")
@click.option("--new", default=64, show_default=True, type=click.IntRange(min=1), help="tokens decoded")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write every round to this file")
def main(
    variants: tuple[str, ...],
    base: tuple[str, str] | None,
    pairs: int,
    threads: int,
    prompt: int,
    new: int,
    json_file: Path | None,
) -> None:
    """Prints what loads, prompts and decoding take, and ratios to the first contender."""
    wanted = [(ROOT, text) for text in variants]
    if base:
        wanted.insert(0, (Path(base[0]).resolve(), base[1]))
    if len(wanted) < 2:
        raise click.ClickException("one contender has nothing to be put over; name another, or --base")
    try:
        sides = [read_side(text, root, prompt, new, threads) for root, text in wanted]
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    rounds: list[list[Figures]] = []
    with tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder) / f"{number}" for number in range(len(sides))]
        for number in range(pairs + 1):
            order = turned(range(len(sides)), number)
            found = {index: sides[index].run(caches[index]) for index in order}
            if number:  # the first one fills caches
                rounds.append([found[index] for index in range(len(sides))])
            click.echo(f"round {number} of {pairs}", err=True)
    show(sides, rounds)
    if json_file is not None:
        document = {"threads": threads, "sides": [side.name for side in sides], "rounds": rounds}
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
