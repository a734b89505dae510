"""`edgesdk index`: an index of the user's texts, in one file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.printable import printable
from edgesdk.cli.options import json_option
from edgesdk.cli.output import megabytes, print_facts, print_json
from edgesdk.errors import CheckpointError, first_line

if TYPE_CHECKING:
    from edgesdk.retrieval.embedder import Embedder
    from edgesdk.retrieval.passage import IndexReport, Passage
    from edgesdk.retrieval.text_index import IndexProgress, TextIndex

EXAMPLES = """\b
Examples:
  edgesdk index build notes.index ~/Notes
  edgesdk index search notes.index "When was the boiler repaired?"
  edgesdk index build notes.index ~/Notes --embedder my-embedder
  edgesdk index stats notes.index --json
"""

_SHOWN = 240

index_argument = click.argument("index", type=click.Path(path_type=Path))
texts_argument = click.argument(
    "texts", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|FOLDER..."
)
embedder_option = click.option(
    "--embedder",
    metavar="MODEL",
    help="A bundle that embeds (`convert --embeddings`), or the folder of a sentence encoder with its ONNX "
    "file: vectors of the passages are kept, and what words find is ranked by them. An index goes with the "
    "one that it was built with. Default: none.",
)


@contextmanager
def embedder_of(name: str | None) -> Iterator[Embedder | None]:
    """The model that embeds passages and questions, loaded; None for none."""
    if name is None:
        yield None
        return
    from edgesdk.vectors.encoder import is_encoder, open_encoder

    if is_encoder(Path(name)):
        with open_encoder(name) as encoder:
            yield encoder
        return
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.load_model import load

    try:
        bundle = find_or_convert(name)
    except CheckpointError as error:
        if not (Path(name) / "1_Pooling").is_dir():
            raise
        hint = "a sentence encoder is read where its folder has onnx/model.onnx"
        raise CheckpointError(f"{first_line(error)}; {hint}") from error
    with load(bundle) as model:
        yield model.embedder()


@contextmanager
def opened_index(index: Path, embedder: str | None) -> Iterator[TextIndex]:
    """An index that is there, with the bundle that embeds; a file that is none is refused before it loads."""
    from edgesdk.retrieval.text_index import open_index

    if embedder is not None:
        open_index(index).close()
    with embedder_of(embedder) as model, open_index(index, embedder=model) as opened:
        yield opened


@click.group(short_help="Index texts, and search them.", epilog=EXAMPLES)
def command() -> None:
    """Keeps an index of texts (.txt, .md, .html, .pdf) in one file, and searches it. Needs the extra
    `retrieval`.
    """


@command.command(short_help="Make an index, or bring one up to date.", epilog=EXAMPLES)
@index_argument
@texts_argument
@click.option(
    "--words",
    type=click.Choice(["english", "plain", "trigram"]),
    default="english",
    show_default=True,
    help="How texts are taken apart: english words by their stems; plain words of any language with spaces; "
    "trigram, three letters each, for languages without.",
)
@embedder_option
@json_option
def build(index: Path, texts: tuple[Path, ...], words: str, embedder: str | None, as_json: bool) -> None:
    """Reads every FILE, and all texts in every FOLDER, into the file INDEX.

    What is in it and has not changed is left alone; what is gone from a folder is removed. It may be
    interrupted and called again.
    """
    from edgesdk.retrieval.read_text import no_text, text_files
    from edgesdk.retrieval.text_index import make_index

    if not index.exists() and not text_files(texts):
        raise no_text(texts)
    with embedder_of(embedder) as model, make_index(index, words=words, embedder=model) as opened:
        report = opened.add(texts, _progress())
    _show_report(report, as_json)


@command.command(short_help="Read more texts into an index.", epilog=EXAMPLES)
@index_argument
@texts_argument
@embedder_option
@json_option
def add(index: Path, texts: tuple[Path, ...], embedder: str | None, as_json: bool) -> None:
    """Reads texts into an INDEX that is there; also again, where they have changed."""
    with opened_index(index, embedder) as opened:
        report = opened.add(texts, _progress())
    _show_report(report, as_json)


@command.command(short_help="Find passages.", epilog=EXAMPLES)
@index_argument
@click.argument("question")
@click.option(
    "--top",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    metavar="N",
    help="Most passages.",
)
@embedder_option
@json_option
def search(index: Path, question: str, top: int, embedder: str | None, as_json: bool) -> None:
    """Finds the passages in INDEX that match QUESTION best, by BM25, then by a model if one is given."""
    with opened_index(index, embedder) as opened:
        found = opened.search(question, top=top)
    if as_json:
        print_json({"passages": found})
        return
    if not found:
        click.echo("no passage has a word of the question", err=True)
    for place, passage in enumerate(found, 1):
        _show_passage(place, passage)


@command.command(short_help="Say what is in an index.", epilog=EXAMPLES)
@index_argument
@click.option("--check", is_flag=True, help="Also read all of it, and compare it with its own search tables.")
@json_option
def stats(index: Path, check: bool, as_json: bool) -> None:
    """Says how many texts and passages INDEX holds, and how they are searched."""
    from edgesdk.retrieval.text_index import open_index

    with open_index(index) as opened:
        if check:
            opened.check()
        found = opened.stats()
    if as_json:
        print_json(found)
        return
    print_facts(
        [
            ("index", str(found.path)),
            ("size", f"{megabytes(found.size_bytes)} MB"),
            ("files", str(found.files)),
            ("passages", str(found.passages)),
            ("characters", str(found.characters)),
            ("words", found.words),
            ("embeddings", found.embedder or "none"),
        ]
    )


def _progress() -> IndexProgress | None:
    """A line on a terminal's standard error that says how far it is."""
    if not sys.stderr.isatty():
        return None

    def show(files: int, passages: int) -> None:
        click.echo(f"\r{files} files read, {passages} passages written", nl=False, err=True)

    return show


def _show_report(report: IndexReport, as_json: bool) -> None:
    """Says what became of the files.

    Raises:
        SystemExit: with 1, where no file could be read.
    """
    if as_json:
        print_json(report)
    else:
        if sys.stderr.isatty():
            click.echo(err=True)
        for unread in report.unread:
            click.echo(f"not read: {printable(str(unread.path))}: {printable(unread.why)}", err=True)
        click.echo(
            f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged, "
            f"{report.removed} removed; {report.passages} passages written"
        )
    if report.unread and not (report.added or report.changed or report.unchanged):
        raise SystemExit(1)


def _show_passage(place: int, passage: Passage) -> None:
    click.echo(f"{place}. {printable(str(passage.path))} ({passage.score:.2f})")
    click.echo(f"   {beginning(passage, _SHOWN)}")


def beginning(passage: Passage, characters: int) -> str:
    """What a passage begins with, in one line that a terminal can show."""
    text = " ".join(passage.text.split())
    return printable(text if len(text) <= characters else f"{text[:characters]}...")
