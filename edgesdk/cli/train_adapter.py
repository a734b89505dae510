"""`edgesdk train adapter`: a model learns from texts, by a part of low rank that is kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.options import json_progress_option, revision_option
from edgesdk.cli.output import print_facts, print_json
from edgesdk.cli.training_options import (
    hours_option,
    length,
    run_training,
    seed_option,
    steps_option,
    work_option,
)
from edgesdk.errors import UnsupportedOption, quoted

if TYPE_CHECKING:
    from edgesdk_converters.training.train_adapter import AdapterReport

EXAMPLES = """\b
Examples:
  edgesdk train adapter smollm2-135m letters --data letters.txt --steps 200
  edgesdk convert smollm2-135m mine --merge-adapter letters
  edgesdk vocab adapt smollm2-135m german --corpus texts.txt --language de
  edgesdk train adapter german german-tuned --data texts.txt --tables --hours 2
  edgesdk convert german bundle --merge-adapter german-tuned
"""


def _layers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise UnsupportedOption(
            f"--layers is {quoted(value)}, expected numbers with commas between, as 0,1,28,29"
        ) from None


@click.command(short_help="Train an adapter (LoRA) on texts.", epilog=EXAMPLES)
@click.argument("model")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FILE",
    help="A UTF-8 text file, or sample for the shipped calibration sample. Several times for several.",
)
@hours_option()
@steps_option
@click.option(
    "--rank",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    metavar="N",
    help="Of every product.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    default=32.0,
    show_default=True,
    help="What is learnt is multiplied by this over the rank.",
)
@click.option(
    "--layers",
    callback=_layers,
    metavar="LIST",
    help="Blocks that learn, as 0,1,28,29. Default: all.",
)
@click.option(
    "--tables",
    is_flag=True,
    help="Have embedding table and head learn, too, as a whole: for a vocabulary that is new to it.",
)
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Windows of 256 tokens that a step learns from.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="X",
    default=5e-4,
    show_default=True,
    help="The highest.",
)
@seed_option("draws and first numbers")
@work_option("the state of the run")
@revision_option
@json_progress_option
def train_adapter_command(
    model: str,
    out: Path,
    data: tuple[str, ...],
    hours: float | None,
    steps: int | None,
    rank: int,
    alpha: float,
    layers: tuple[int, ...] | None,
    tables: bool,
    windows: int,
    learning_rate: float,
    seed: int,
    work: Path | None,
    revision: str | None,
    as_json: bool,
) -> None:
    """Trains an adapter of low rank for the checkpoint MODEL on texts, and writes it into the folder OUT.

    OUT is a folder as PEFT saves it: `edgesdk convert --merge-adapter OUT` makes it part of the model. The
    model learns to write what stands in the texts; with --tables also tokens that `edgesdk vocab adapt` gave
    it. A tenth of the text is held back, to judge the adapter on. The same command goes on where a run was.
    """
    with converters_installed():
        from edgesdk_converters.training.adapter_training import AdapterTraining
        from edgesdk_converters.training.train_adapter import train_adapter

        options = AdapterTraining(
            data=data,
            hours=length(hours, steps),
            steps=steps,
            rank=rank,
            alpha=alpha,
            layers=layers,
            tables=tables,
            windows=windows,
            learning_rate=learning_rate,
            seed=seed,
            work=work,
        )
        made = run_training(
            lambda report: train_adapter(model, out, options, revision=revision, report=report), as_json
        )
    _show(*made, as_json)


def _show(report: AdapterReport, wall_s: float, as_json: bool) -> None:
    if as_json:
        print_json({"event": "done", "wall_s": wall_s, "report": report}, one_line=True)
        return
    print_facts(
        [
            ("adapter", str(report.adapter)),
            (
                "trained",
                f"{report.trained} numbers, {report.share:.1%} of the model's; {report.steps} steps, "
                f"{report.tokens} tokens, {report.passes:.1f} times every text; {wall_s / 60:.1f} min in all",
            ),
            (
                "bits a byte",
                f"{report.bits_before:.3f} before, {report.bits_after:.3f} after, on {report.held_back} "
                "windows that were held back",
            ),
        ]
    )
