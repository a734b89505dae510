"""`edgesdk ask`: a question about the user's texts, answered with sources."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.printable import printable
from edgesdk.cli.index import beginning, embedder_option, opened_index
from edgesdk.cli.load_options import load_options
from edgesdk.cli.options import json_option, model_argument
from edgesdk.cli.output import print_json, show_receipt

if TYPE_CHECKING:
    from edgesdk.load_options import LoadOptions
    from edgesdk.retrieval.sourced_answer import GateName, SourcedAnswer

EXAMPLES = """\b
Examples:
  edgesdk index build notes.index ~/Notes
  edgesdk ask smollm2 notes.index "When was the boiler repaired?" --explain
  edgesdk ask smollm2 notes.index "Who was Ada Lovelace?" --gate always --json
"""

_SHOWN = 100
"""Characters of a passage."""


@click.command(short_help="Answer a question from your texts.", epilog=EXAMPLES)
@model_argument
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("question")
@click.option(
    "--gate",
    type=click.Choice(["always", "never", "logprob", "entropy", "ask", "flare", "head"]),
    default="entropy",
    show_default=True,
    help="What decides whether to search: how sure the model is of its own first answer (entropy or logprob "
    "of its tokens, flare: the least likely one), what it says when it is asked, a trained judge (head), or "
    "nothing.",
)
@click.option(
    "--judge",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The judge for --gate head, made by `edgesdk train judge`. Default: none.",
)
@click.option(
    "--threshold",
    type=float,
    metavar="X",
    help="From where on the model is taken to know. Default: the gate's own.",
)
@click.option(
    "--rewrite/--no-rewrite",
    default=True,
    show_default=True,
    help="Have the model write queries beside the question.",
)
@click.option(
    "--passages",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    metavar="N",
    help="Most passages that the answer is given.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help="Most tokens of the answer.",
)
@click.option(
    "--larger",
    metavar="MODEL",
    help="The model that answers; MODEL then only judges and writes queries. Default: MODEL does it all.",
)
@embedder_option
@click.option(
    "--explain",
    is_flag=True,
    help="Show every decision on the way, what it took, what was searched for, and what the model was given.",
)
@load_options
@json_option
def command(
    model: str,
    index: Path,
    question: str,
    gate: GateName,
    judge: Path | None,
    threshold: float | None,
    rewrite: bool,
    passages: int,
    max_tokens: int,
    larger: str | None,
    embedder: str | None,
    explain: bool,
    loading: LoadOptions,
    as_json: bool,
) -> None:
    """Answers QUESTION with MODEL, from the texts in INDEX where the model does not know the answer itself.

    The sources are named below the answer. An index is made with `edgesdk index build`.
    """
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.load_model import load
    from edgesdk.retrieval.answer_with_sources import answer_with_sources
    from edgesdk.retrieval.gate_options import GateKeywords, GateOptions
    from edgesdk.retrieval.judge_file import read_judge

    options: GateKeywords = {
        "gate": gate,
        "judge": judge,
        "threshold": threshold,
        "rewrite": rewrite,
        "passages": passages,
        "max_tokens": max_tokens,
    }
    with ExitStack() as stack:
        # All that can be refused before a model is loaded, which may take long.
        GateOptions.of(options)
        if judge is not None:
            read_judge(judge)
        texts = stack.enter_context(opened_index(index, embedder))
        opened = stack.enter_context(load(find_or_convert(model), loading))
        show_receipt(opened.receipt, loading)
        second = None if larger is None else stack.enter_context(load(find_or_convert(larger), loading))
        found = answer_with_sources(opened, texts, question, larger=second, **options)
    if as_json:
        print_json(found)
        return
    _show(found, explain)


def _show(found: SourcedAnswer, explain: bool) -> None:
    for line in found.text.splitlines() or ["-"]:
        click.echo(printable(line))
    if found.searched and not found.passages:
        click.echo("\nSearched: no passage was found that fits.")
    elif found.searched:
        numbers = found.cited or range(1, len(found.passages) + 1)
        what = "Sources" if found.cited else "Found, but not what the answer says"
        click.echo(f"\n{what}:")
        for number in numbers:
            click.echo(f"[{number}] {printable(str(found.passages[number - 1].path))}")
    else:
        click.echo("\nNothing was searched: the model answered by itself.")
    if explain:
        _explain(found)


def _explain(found: SourcedAnswer) -> None:
    """Every decision, what was searched for, and what the model was given of it."""
    click.echo()
    for stage in found.stages:
        click.echo(f"{stage.seconds * 1e3:7.0f} ms  {stage.name}: {printable(stage.decided)}")
    for query in found.queries:
        click.echo(f"searched for: {printable(query)}")
    for number, passage in enumerate(found.passages, 1):
        shown = beginning(passage, _SHOWN)
        click.echo(f"given [{number}] {printable(str(passage.path))}: {shown}")
