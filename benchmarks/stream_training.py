"""What streams learn in both forms and other sizes, on the same texts and for the same processor time.

    python benchmarks/stream_training.py SOURCE WORK [--seconds 60 | --steps N] [--tokens 30000]
        [--only NAME ...]

SOURCE writes its answers once, into WORK/texts/work, unless some are there (a work folder of `train draft`
or `train streams`, or a part of one). Each kind of streams then learns from them, and from states that are
read once, in a folder of its own for SECONDS of processor time, all threads together: a few steps are timed,
and their number follows; states are not counted. `--steps` gives all kinds as many steps in place of as
much time. What comes out is judged on the greedy answers that were
held back: tokens for each call of the model, as `edgesdk train streams` prints them. The paper's ablations
are among the kinds: layers of streams, how many there are, training the model with them (what that changes
is printed, too), and how many branches could win (the share of places where the token is among the 1, 2, 4
likeliest).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.training.products import Numbers
from edgesdk_converters.training.stream_training import StreamTraining
from edgesdk_converters.training.train_streams import train_streams

_TIMED = 8
_OWN = ("streams", "teacher", "reader")
"""Of a work folder: the run's, and bundles that nobody asks for once texts and states are there."""


def kinds(blocks: int, options: StreamTraining) -> dict[str, StreamTraining]:
    """What is compared, by what it is called here."""
    streams = replace(options, form="streams")
    every = ("q", "k", "v", "o", "gate", "up", "down")
    found = {
        "masks": options,
        "masks, 3 streams": replace(options, streams=3),
        "masks, 4 streams": replace(options, streams=4),
        "masks, rank 8": replace(options, rank=8),
        "masks, every product": replace(options, parts=every, rank=14),
    }
    for layers in dict.fromkeys(max(1, blocks // part) for part in (6, 3, 2)):
        found[f"streams, {layers} layers"] = replace(streams, layers=layers)
    for count in (3, 4):
        found[f"streams, {count} streams"] = replace(streams, streams=count)
    found["masks, shared"] = replace(options, mode="shared")
    found["streams, shared"] = replace(streams, mode="shared")
    return found


def begin_run(texts: Path, folder: Path) -> None:
    """An empty folder for a run, which has texts and states of others."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(texts, folder / "work", ignore=shutil.ignore_patterns(*_OWN), copy_function=os.link)


def processor_steps(source: str, texts: Path, folder: Path, options: StreamTraining, seconds: float) -> int:
    """Steps that fit into so much processor time."""
    spent = []
    for steps in (_TIMED, 3 * _TIMED):
        begin_run(texts, folder)
        began = time.process_time()
        train_streams(source, folder, replace(options, steps=steps))
        spent.append(time.process_time() - began)
    return max(1, int(seconds / max((spent[1] - spent[0]) / (2 * _TIMED), 1e-3)))


@click.command()
@click.argument("source")
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seconds", default=60.0, show_default=True, help="Of processor time, for each kind.")
@click.option("--steps", "fixed", type=click.IntRange(min=1), help="For each kind, in place of seconds.")
@click.option("--tokens", default=30_000, show_default=True, help="Of answers.")
@click.option("--places", default=64, show_default=True)
@click.option("--rate", default=1e-3, show_default=True, help="Learning rate.")
@click.option("--streams", default=2, show_default=True)
@click.option("--numbers", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16"]))
@click.option("--only", multiple=True, help="Only kinds of these names.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    source: str,
    work: Path,
    seconds: float,
    fixed: int | None,
    tokens: int,
    places: int,
    rate: float,
    streams: int,
    numbers: Numbers,
    only: tuple[str, ...],
    path: Path | None,
) -> None:
    """Trains every kind and prints what each is worth."""
    spec = read_spec(open_checkpoint(source).config)
    options = StreamTraining(
        hours=None,
        steps=1,
        answer_tokens=tokens,
        streams=streams,
        places=places,
        learning_rate=rate,
        numbers=numbers,
        words=min(8192, spec.vocab_size),
        tokens=min(320, spec.context),
    )
    texts = work / "texts"
    found = {}
    for name, kind in kinds(len(spec.blocks), options).items():
        if only and name not in only:
            continue
        # Texts are written, and states read that the kind begins with, where nobody counts.
        shutil.rmtree(texts / "work" / "streams", ignore_errors=True)
        train_streams(source, texts, kind)
        folder = work / name.replace(" ", "-").replace(",", "")
        steps = fixed or processor_steps(source, texts / "work", folder, kind, seconds)
        begin_run(texts / "work", folder)
        report = train_streams(source, folder, replace(kind, steps=steps))
        if report.worth is None:
            raise click.ClickException("no greedy answers were held back; give more --tokens")
        changes = [asdict(change) for change in report.changes]
        found[name] = {"steps": steps, "share": report.share, "changes": changes, **asdict(report.worth)}
        efficiency = " ".join(f"{each:.3f}" for each in report.worth.efficiency)
        among = "; ".join(" ".join(f"{each:.3f}" for each in shares) for shares in report.worth.among)
        print(f"{name}: {steps} steps, {report.share:.1%}: {efficiency} | {among}", flush=True)
        for change in report.changes:
            print(f"    {change}", flush=True)
        if path is not None:
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
