"""What streams learn in both forms and other sizes, on the same texts and for the same processor time.

    python benchmarks/stream_training.py SOURCE WORK [--seconds 60] [--tokens 30000] [--only WORDS]

SOURCE writes its answers once, into WORK; each kind of streams then learns from them in a folder of its own
for SECONDS of processor time, all threads together: a few steps are timed, and their number follows. What
comes out is judged on the greedy answers that were held back: tokens for each call of the model, as
`edgesdk train streams` prints them. The paper's ablations are among the kinds: layers of streams, how many
there are, and how many branches could win (the share of places where the token is among the 1, 2, 4
likeliest).
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.training.stream_training import StreamTraining
from edgesdk_converters.training.train_streams import train_streams

_TIMED = 8
_SHARED = ("answers.jsonl", "answers.json")


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
    found["streams, 3 streams"] = replace(streams, streams=3)
    return found


def processor_steps(source: str, folder: Path, options: StreamTraining, seconds: float) -> int:
    """Steps that fit into so much processor time."""
    spent = []
    for steps in (_TIMED, 3 * _TIMED):
        began = time.process_time()
        train_streams(source, folder / str(steps), replace(options, steps=steps, work=None))
        spent.append(time.process_time() - began)
    return max(1, int(seconds / max((spent[1] - spent[0]) / (2 * _TIMED), 1e-3)))


@click.command()
@click.argument("source")
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seconds", default=60.0, show_default=True, help="Of processor time, for each kind.")
@click.option("--tokens", default=30_000, show_default=True, help="Of answers.")
@click.option("--places", default=64, show_default=True)
@click.option("--rate", default=1e-3, show_default=True, help="Learning rate.")
@click.option("--only", default=None, help="Only kinds whose name holds this.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    source: str,
    work: Path,
    seconds: float,
    tokens: int,
    places: int,
    rate: float,
    only: str | None,
    path: Path | None,
) -> None:
    """Trains every kind and prints what each is worth."""
    spec = read_spec(open_checkpoint(source).config)
    options = StreamTraining(
        hours=None,
        steps=1,
        answer_tokens=tokens,
        places=places,
        learning_rate=rate,
        words=min(8192, spec.vocab_size),
        tokens=min(320, spec.context),
    )
    texts = work / "texts"
    train_streams(source, texts, options)
    found = {}
    for name, kind in kinds(len(spec.blocks), options).items():
        if only is not None and only not in name:
            continue
        folder = work / name.replace(" ", "-").replace(",", "")
        for part in ("run", *(str(n * _TIMED) for n in (1, 3))):
            shutil.rmtree(folder / part, ignore_errors=True)
            (folder / part / "work").mkdir(parents=True)
            for file in _SHARED:
                shutil.copy(texts / "work" / file, folder / part / "work" / file)
        steps = processor_steps(source, folder, kind, seconds)
        report = train_streams(source, folder / "run", replace(kind, steps=steps))
        if report.worth is None:
            raise click.ClickException("no greedy answers were held back; give more --tokens")
        found[name] = {"steps": steps, "share": report.share, **asdict(report.worth)}
        efficiency = " ".join(f"{each:.3f}" for each in report.worth.efficiency)
        among = "; ".join(" ".join(f"{each:.3f}" for each in shares) for shares in report.worth.among)
        print(f"{name}: {steps} steps, {report.share:.1%}: {efficiency} | {among}", flush=True)
        if path is not None:
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
