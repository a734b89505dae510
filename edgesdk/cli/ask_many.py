"""`edgesdk ask-many`: many questions about one text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.printable import printable
from edgesdk.cli.load_options import load_options
from edgesdk.cli.options import (
    Answering,
    Ruling,
    grammar_options,
    item_options,
    json_option,
    model_argument,
    read_text_file,
    template_option,
)
from edgesdk.cli.output import print_json, show_changes, show_receipt
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.bundle.records import JsonValue
    from edgesdk.load_options import LoadOptions
    from edgesdk.plans.many_answers import AskMode, ItemAnswer, ManyAnswers

EXAMPLES = """\b
Examples:
  edgesdk ask-many smollm2 --context meeting.txt --query "What is the budget?" --query "Who pays?"
  edgesdk ask-many smollm2 --context meeting.txt --queries questions.txt --json
  edgesdk ask-many smollm2 --context meeting.txt --queries questions.txt --mode constrained
  edgesdk ask-many smollm2 --context meeting.txt --query "Is there a date?" --regex "(yes|no)"
"""


@click.command(short_help="Answer many questions about one text.", epilog=EXAMPLES)
@model_argument
@click.option(
    "--context",
    "file",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The text, UTF-8. One that is longer than the model's context is read by parts.",
)
@click.option(
    "--query",
    "asked",
    multiple=True,
    metavar="TEXT",
    help="A question; may be given several times. Default: those of --queries.",
)
@click.option(
    "--queries",
    "list_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file with one question a line, asked after those of --query. Default: none.",
)
@click.option(
    "--mode",
    type=click.Choice(["fork", "paper", "constrained", "single"]),
    default="fork",
    show_default=True,
    help="fork runs the text once, and answers share its cells; paper asks for a JSON list in one prompt; "
    "constrained has a grammar make that list; single makes separate calls.",
)
@click.option(
    "--instruction",
    metavar="TEXT",
    help="What the model is told first. Default: to answer from the text alone, in one short sentence.",
)
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    metavar="N",
    help="Tokens that neighbouring parts of a long text have in common.",
)
@click.option(
    "--retry-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most tokens of an answer that is asked for again, alone. Default: twice --max-tokens.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time for everything; what is not answered by then says so. Default: as long as it takes.",
)
@load_options
@item_options
@grammar_options
@template_option
@json_option
def command(
    model: str,
    file: Path,
    asked: Sequence[str],
    list_file: Path | None,
    mode: AskMode,
    instruction: str | None,
    overlap: int,
    retry_tokens: int | None,
    deadline: float | None,
    loading: LoadOptions,
    answering: Answering,
    ruling: Ruling,
    template_variables: Mapping[str, JsonValue],
    as_json: bool,
) -> None:
    """Answers many questions about one text with MODEL, which is named as for `edgesdk run`.

    There are as many answers as questions, in order; each says how it came about. One that is missing, empty
    or broken is asked for again, alone. Exit code 1 says that a question has no whole answer.
    """
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.load_model import load
    from edgesdk.plans.ask_options import INSTRUCTION

    text, queries = read_text_file(file), _queries(asked, list_file)
    with load(find_or_convert(model), loading) as opened:
        receipt = opened.receipt
        show_receipt(receipt, loading)
        found = opened.ask_many(
            text,
            queries,
            mode=mode,
            instruction=INSTRUCTION if instruction is None else instruction,
            overlap_tokens=overlap,
            retry_tokens=retry_tokens,
            deadline_s=deadline,
            template_variables=template_variables or None,
            **answering,
            **ruling,
        )
        if as_json:
            print_json({"answers": found, "receipt": opened.receipt})
        else:
            for place, answer in enumerate(found.answers, 1):
                _show(place, answer)
            show_changes(receipt, opened.receipt)
            click.echo(_figures(found), err=True)
    if not found.complete:
        raise SystemExit(1)


def _queries(asked: Sequence[str], file: Path | None) -> list[str]:
    lines = [] if file is None else read_text_file(file).splitlines()
    queries = [*asked, *(line.strip() for line in lines if line.strip())]
    if not queries:
        if file is not None:
            raise UnsupportedOption(f"{file} has no questions, expected one a line")
        raise click.UsageError("there is no question; give --query or --queries")
    return queries


def _show(place: int, answer: ItemAnswer) -> None:
    click.echo(f"{place}. {printable(answer.query)}")
    for line in answer.text.splitlines() or ["-"]:
        click.echo(f"   {printable(line)}")
    for what in (answer.note, answer.error):
        if what is not None:
            click.echo(f"question {place}, answered {answer.how}: {printable(what)}", err=True)


def _figures(found: ManyAnswers) -> str:
    parts = [
        f"{len(found.answers)} answers in {found.wall_s:.1f} s",
        f"{found.prompt_tokens} prompt tokens, {found.prompt_tokens_apart} in separate calls",
        f"{found.new_tokens} new tokens",
    ]
    if found.parts > 1:
        parts.append(f"the text in {found.parts} parts")
    return "; ".join(parts)
