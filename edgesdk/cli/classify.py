"""`edgesdk classify`: texts to labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.convert_options import split_list
from edgesdk.cli.given_texts import given_texts
from edgesdk.cli.load_options import load_options
from edgesdk.cli.options import early_exit_option, list_option, model_argument
from edgesdk.cli.output import print_json, print_table, show_exits, show_receipt
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.load_options import LoadOptions

EXAMPLES = """\b
Examples:
  edgesdk classify smollm2 review.txt --labels positive,negative
  edgesdk classify smollm2 --lines reviews.txt --labels positive,negative --examples some.jsonl --json
  cat reviews.txt | edgesdk classify leaving --labels positive,negative --early-exit rule.json
"""
_BATCH = 64
"""Texts that are classified before their lines are printed."""


@click.command(short_help="Give texts one of some labels.", epilog=EXAMPLES)
@model_argument
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@list_option(
    "--labels",
    "Words to choose from, joined by commas; each must begin with a token of its own.",
)
@click.option(
    "--lines", is_flag=True, help="Every line of a file is a text of its own; empty ones are left out."
)
@click.option(
    "--examples",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help='Texts with their labels, which stand before each text: JSON lines {"text": "...", "label": "..."}. '
    "Small models need some. Default: none.",
)
@click.option("--instruction", default="", metavar="TEXT", help="Stands before examples. Default: none.")
@early_exit_option
@load_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line for each text instead of a table.")
def command(
    model: str,
    files: Sequence[Path],
    labels: str,
    lines: bool,
    examples: Path | None,
    instruction: str,
    early_exit: str | None,
    loading: LoadOptions,
    as_json: bool,
) -> None:
    """Gives each of FILES a label with MODEL, which is named as for `edgesdk run`.

    Without FILES every line of standard input is a text. The label is the model's next word after the text.
    With --early-exit a text runs through as many blocks of the model as a rule wants, in a bundle that was
    converted with --exits; how many those were goes to standard error.
    """
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.load_model import load
    from edgesdk.vectors.labelled_texts import read_labelled

    texts = list(given_texts(files, lines))
    if not texts:
        raise UnsupportedOption("there is no text to classify; give files, or lines on standard input")
    shots = [] if examples is None else [(each.text, each.label) for each in read_labelled(examples)]
    with load(find_or_convert(model), loading) as opened:
        show_receipt(opened.receipt, loading)
        rows = []
        for first in range(0, len(texts), _BATCH):
            batch = texts[first : first + _BATCH]
            found = opened.classify_many(
                [each.text for each in batch],
                split_list(labels),
                instruction=instruction,
                examples=shots,
                early_exit=early_exit,
            )
            for each, result in zip(batch, found.results, strict=True):
                if as_json:
                    print_json({"source": each.source, "line": each.line, "result": result}, one_line=True)
                    continue
                where = each.source if each.line is None else f"{each.source}:{each.line}"
                rows.append((where, result.label, f"{result.chances[result.label]:.2f}", str(result.blocks)))
            if found.figures is not None:
                click.echo(show_exits(found.figures), err=True)
    if not as_json:
        print_table(("text", "label", "chance>", "blocks>"), rows)
