"""`edgesdk layers`: what a shallower stack would lose, before anything is converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.options import json_option, revision_option
from edgesdk.cli.output import print_facts, print_json, print_table, stage_printer

if TYPE_CHECKING:
    from edgesdk_converters.layers.report_layers import LayerReport

EXAMPLES = """\b
Examples:
  edgesdk layers rank smollm2-135m
  edgesdk layers rank smollm2-135m --remove 4 --repair linear --plot layers.svg
"""

RANK_EXAMPLES = """\b
Examples:
  edgesdk layers rank smollm2-135m --remove 4 --repair linear --plot layers.svg
  edgesdk layers rank model.gguf --method influence --unit half --text mails.txt --json
"""

_WINDOW_TOKENS = 256


@click.group(short_help="Judge a shallower stack.", epilog=EXAMPLES)
def command() -> None:
    """Says what removing layers costs. Needs the `convert` extra."""


@command.command(short_help="Rank layers by what the model loses without them.", epilog=RANK_EXAMPLES)
@click.argument("source")
@click.option(
    "--method",
    type=click.Choice(["greedy", "loss", "influence", "random"]),
    default="greedy",
    show_default=True,
    help="greedy: loss without each, again after every removal; loss: without each alone; influence: how far "
    "each turns the residual stream; random: to compare with.",
)
@click.option(
    "--unit",
    type=click.Choice(["block", "half"]),
    default="block",
    show_default=True,
    help="Rank whole blocks, or attention and feed-forward halves.",
)
@click.option(
    "--remove",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="How many blocks or halves to remove, one after the other.",
)
@click.option(
    "--repair",
    type=click.Choice(["linear", "matrix", "scale"]),
    help="Measure the repaired stack too: a least-squares fit of what stands before each gap. Default: no.",
)
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="UTF-8 text to measure on. Default: a built-in sample of eight kinds of text.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=2 * _WINDOW_TOKENS),
    default=6 * _WINDOW_TOKENS,
    show_default=True,
    metavar="N",
    help=f"Tokens of it, in windows of {_WINDOW_TOKENS}; every third window checks, the others rank.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of a random ranking.")
@revision_option
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw influence and perplexity into this .svg file; needs the `bench` extra. Default: no.",
)
@json_option
def rank(
    source: str,
    method: Literal["greedy", "loss", "influence", "random"],
    unit: Literal["block", "half"],
    remove: int,
    repair: Literal["linear", "matrix", "scale"] | None,
    text: Path | None,
    tokens: int,
    seed: int,
    revision: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Ranks the layers of the checkpoint SOURCE, and measures the model without the first of them.

    Perplexities are those of the float32 model on text that the ranking has not seen. The layers shown
    can be given to `edgesdk convert --skip-layers`. Nothing is converted.
    """
    with converters_installed():
        from edgesdk_converters.architectures.read_program import read_program
        from edgesdk_converters.calibration_windows import calibration_windows
        from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
        from edgesdk_converters.layers.plot_layers import check_plot, plot_layers
        from edgesdk_converters.layers.rank_layers import RankOptions
        from edgesdk_converters.layers.report_layers import report_layers
        from edgesdk_converters.quantise.calibration.calibration_text import (
            builtin_calibration,
            read_calibration,
        )

        if plot is not None:
            check_plot(plot)
        checkpoint = open_checkpoint(source, revision=revision)
        sample = builtin_calibration() if text is None else read_calibration(text)
        report = report_layers(
            checkpoint.name,
            read_program(checkpoint),
            calibration_windows(checkpoint, sample, _WINDOW_TOKENS, tokens),
            (sample.name, sample.sha256),
            RankOptions(method, remove, unit, seed),
            repair=repair,
            report=stage_printer(),
        )
        if plot is not None:
            plot_layers(report, plot)
    if as_json:
        print_json(report)
        return
    _show(report)


def _show(report: LayerReport) -> None:
    ranking = report.ranking
    print_facts(
        [
            ("checkpoint", report.checkpoint),
            ("ranked by", f"{ranking.method}, {ranking.tokens} tokens of {report.text}"),
            ("checked on", f"{report.checked_tokens} other tokens of it"),
        ]
    )
    print_table(
        (ranking.unit, "million weights>", "influence>", "nats lost alone>"),
        [
            (
                score.part,
                f"{score.weights / 1e6:.2f}",
                f"{score.influence:.4f}",
                "-" if score.loss_increase is None else f"{score.loss_increase:+.4f}",
            )
            for score in ranking.scores
        ],
        title="What each is worth",
    )
    repaired = [f"{point.perplexity_ratio:.4f}" for point in report.repaired] or ["-"] * len(report.curve)
    print_table(
        ("removed>", "which", "perplexity ratio>", "at most (95 %)>", "repaired>"),
        [
            (
                str(point.removed),
                point.request,
                f"{point.perplexity_ratio:.4f}",
                f"{point.upper_ratio:.4f}",
                fixed,
            )
            for point, fixed in zip(report.curve, repaired, strict=True)
        ],
        title="Without the first ones",
    )
