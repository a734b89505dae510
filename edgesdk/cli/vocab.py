"""`edgesdk vocab`: what a smaller vocabulary would cost and save, and a checkpoint with another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.options import json_option, revision_option
from edgesdk.cli.output import megabytes, print_facts, print_json, print_table

if TYPE_CHECKING:
    from edgesdk_converters.vocabulary.adapt.adapt_vocab import AdaptReport
    from edgesdk_converters.vocabulary.adapt.initialise import Init
    from edgesdk_converters.vocabulary.coverage_report import CoverageReport, TextCoverage

EXAMPLES = """\b
Examples:
  edgesdk vocab report smollm2-135m --prune-vocab language=en,size=16000 --text book.txt
"""

REPORT_EXAMPLES = """\b
Examples:
  edgesdk vocab report smollm2-135m --prune-vocab language=en,size=16000 --text book.txt
  edgesdk vocab report model.gguf --prune-vocab corpus=mails.txt,coverage=0.999 --text a.txt --text b.txt
"""


@click.group(short_help="Judge or change a vocabulary.", epilog=EXAMPLES)
def command() -> None:
    """Judges a smaller vocabulary, or makes one of another language. Needs the `convert` extra."""


@command.command(short_help="Compare a text under both vocabularies.", epilog=REPORT_EXAMPLES)
@click.argument("source")
@click.option(
    "--prune-vocab",
    required=True,
    metavar="SPEC",
    help="What to keep: corpus=FILE or language=CODE, with size=N or coverage=X; or tokens=FILE; "
    "with ,output-only the head alone.",
)
@click.option(
    "--text",
    "texts",
    required=True,
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="UTF-8 text that did not choose the tokens; several times for several domains or languages.",
)
@revision_option
@json_option
def report(
    source: str, prune_vocab: str, texts: tuple[Path, ...], revision: str | None, as_json: bool
) -> None:
    """Chooses tokens of the checkpoint SOURCE as `edgesdk convert --prune-vocab` would, and judges them.

    Shown are tokens per byte before and after, the share of lines whose tokens change, the weights
    saved, and the speed of decoding that follows from reading less. Nothing is converted.
    """
    with converters_installed():
        from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
        from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
        from edgesdk_converters.vocabulary.coverage_report import report_coverage
        from edgesdk_converters.vocabulary.prune_request import parse_prune_option
        from edgesdk_converters.vocabulary.prune_vocab import prune_vocab as prune

        request = parse_prune_option(prune_vocab)
        checkpoint = open_checkpoint(source, revision=revision)
        choice = choose_tokens(checkpoint, request)
        result = report_coverage(checkpoint, prune(checkpoint, choice), choice, texts)
    if as_json:
        print_json(result)
        return
    _show(result)


ADAPT_EXAMPLES = """\b
Examples:
  edgesdk vocab adapt smollm2-135m german --language de --corpus texts
  edgesdk vocab adapt smollm2-135m german --corpus texts --expand --size 8000
  edgesdk convert german german-bundle
"""


@command.command(short_help="Give a checkpoint another language's vocabulary.", epilog=ADAPT_EXAMPLES)
@click.argument("source")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--corpus",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE|DIR",
    help="UTF-8 text of the language, or a folder of .txt and .md files.",
)
@click.option("--language", metavar="CODE", help="Its code, for the record. Default: none.")
@click.option(
    "--init",
    type=click.Choice(["random", "mean", "clp", "clp+", "heuristics", "focus"]),
    default="mean",
    show_default=True,
    help="Rows of new tokens: drawn (random), the mean of what spelled them, mixed by likeness to tokens "
    "that stay (clp, clp+, focus), or drawn by script (heuristics).",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=24_000,
    show_default=True,
    metavar="N",
    help="Tokens of the new vocabulary; with --expand, how many are added.",
)
@click.option("--expand", is_flag=True, help="Keep every token, and add others behind them.")
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A tokenizer.json to take. Default: one is trained on the corpus.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Of what is drawn."
)
@revision_option
@json_option
def adapt(
    source: str,
    out: Path,
    corpus: Path,
    language: str | None,
    init: Init,
    size: int,
    expand: bool,
    tokenizer: Path | None,
    seed: int,
    revision: str | None,
    as_json: bool,
) -> None:
    """Writes the checkpoint SOURCE with a vocabulary for other texts into the folder OUT.

    A tokenizer is trained on the corpus, rows of its tokens are made out of the checkpoint's, and the
    result is an ordinary checkpoint for `edgesdk convert`. It is not tuned: it writes its language worse
    than tokens per byte promise, until somebody trains it. Needs the `vocab` extra for clp,
    clp+ and focus.
    """
    with converters_installed():
        from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
        from edgesdk_converters.vocabulary.adapt.adapt_request import AdaptRequest, find_corpus
        from edgesdk_converters.vocabulary.adapt.adapt_vocab import adapt_vocab

        request = AdaptRequest(find_corpus(corpus), init, size, expand, tokenizer, language, seed)
        report = adapt_vocab(open_checkpoint(source, revision=revision), request, out)
    if as_json:
        print_json(report)
        return
    print_facts(
        [
            ("checkpoint", str(out)),
            ("tokens", f"{report.tokens_before} to {report.tokens_after}, {report.overlap} of the same text"),
            *([("asked", _asked(report))] if report.tokens_after < report.tokens_asked else ()),
            ("rows", ", ".join(f"{count} {origin}" for origin, count in report.origins.items())),
            (
                "tokens per byte",
                f"{report.tokens_per_byte_before:.4f} to {report.tokens_per_byte_after:.4f} "
                f"({report.tokens_per_byte_after / report.tokens_per_byte_before - 1:+.1%}), "
                + (
                    f"of {report.held_out_bytes} bytes that were held out"
                    if report.held_out_bytes
                    else "of what was learnt from: the texts are too short to hold any out"
                ),
            ),
        ]
    )


def _asked(report: AdaptReport) -> str:
    return f"{report.tokens_asked} tokens, but the texts give no more; give more texts"


def _show(result: CoverageReport) -> None:
    chosen, saved = result.vocabulary, result.savings
    covered = "-" if chosen.coverage is None else f"{chosen.coverage:.2%} of the sample's tokens"
    print_facts(
        [
            ("checkpoint", result.checkpoint),
            ("kept", f"{chosen.tokens} of {chosen.source_tokens} tokens, {result.required} in any case"),
            ("covered", covered),
            ("tables", _change(saved.tables_before, saved.tables_after)),
            ("model", _change(saved.model_before, saved.model_after)),
            ("decoding", f"{saved.predicted_step_speedup:.2f}x steps per second, predicted"),
        ]
    )
    print_table(
        ("text", "bytes>", "tokens/byte>", "pruned>", "ratio>", "lines changed>", "round trip"),
        [_row(text) for text in result.texts],
        title="Texts",
    )


def _change(before: int, after: int) -> str:
    return f"{megabytes(before)} to {megabytes(after)} million parameters ({after / before - 1:+.1%})"


def _row(text: TextCoverage) -> tuple[str, ...]:
    return (
        text.name,
        str(text.bytes),
        f"{text.tokens_per_byte_before:.4f}",
        f"{text.tokens_per_byte_after:.4f}",
        f"{text.ratio:.4f}",
        f"{text.changed_lines:.1%}",
        "exact" if text.round_trips else "NOT exact",
    )
