"""`edgesdk embed`: texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.given_texts import given_texts
from edgesdk.cli.load_options import load_options
from edgesdk.cli.options import model_argument
from edgesdk.cli.output import print_json, show_receipt
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.bundle.embedding_record import Pooling
    from edgesdk.load_options import LoadOptions

EXAMPLES = """\b
Examples:
  edgesdk embed my-embedder notes.txt report.txt
  edgesdk embed my-embedder --lines passages.txt --out vectors.npy
  cat questions.txt | edgesdk embed my-embedder --prompt query --dimensions 256
"""
_BATCH = 256
"""Texts that are embedded before their lines are printed."""


@click.command(short_help="Turn texts into vectors.", epilog=EXAMPLES)
@model_argument
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--lines", is_flag=True, help="Every line of a file is a text of its own; empty ones are left out."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write one array (texts, dimensions) of float32 to this .npy file. Default: JSON lines.",
)
@click.option(
    "--prompt",
    metavar="NAME|TEXT",
    help="What stands before every text: one of the bundle's prompts by its name, or a text. Default: the "
    "bundle's own, or nothing.",
)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "last", "cls"]),
    help="Which states of a text make its vector. Default: what the bundle says, or mean.",
)
@click.option(
    "--dimensions",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many numbers of each vector stay. Default: all.",
)
@click.option(
    "--normalise/--no-normalise",
    default=None,
    help="Whether vectors have length 1. Default: what the bundle says, or yes.",
)
@click.option(
    "--truncate", is_flag=True, help="Cut texts that are longer than the context instead of failing."
)
@load_options
def command(
    model: str,
    files: Sequence[Path],
    lines: bool,
    out: Path | None,
    prompt: str | None,
    pooling: Pooling | None,
    dimensions: int | None,
    normalise: bool | None,
    truncate: bool,
    loading: LoadOptions,
) -> None:
    """Turns each of FILES into a vector with MODEL, which is named as for `edgesdk run`.

    Without FILES every line of standard input is a text. The bundle must give states: one that was converted
    with --embeddings, or from a checkpoint that was trained to embed.
    """
    import numpy as np

    from edgesdk.bundle.write_file import check_target, write_file
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.load_model import load

    if out is not None:
        if out.suffix != ".npy":
            raise click.UsageError(f"--out is {out}, expected a file name that ends in .npy")
        check_target(out)
    texts = list(given_texts(files, lines))
    if not texts:
        raise UnsupportedOption("there is no text to embed; give files, or lines on standard input")
    with load(find_or_convert(model), loading) as opened:
        show_receipt(opened.receipt, loading)
        found = []
        for first in range(0, len(texts), _BATCH):
            batch = texts[first : first + _BATCH]
            vectors = opened.embed(
                [each.text for each in batch],
                pooling=pooling,
                normalise=normalise,
                dimensions=dimensions,
                prompt=prompt,
                truncate=truncate,
            )
            if out is not None:
                found.append(vectors)
                continue
            for each, vector in zip(batch, vectors.tolist(), strict=True):
                print_json({"source": each.source, "line": each.line, "embedding": vector}, one_line=True)
    if out is not None:
        whole = np.concatenate(found)

        def save(path: Path) -> None:
            with path.open("wb") as stream:
                np.save(stream, whole)

        write_file(out, save)
        click.echo(f"{len(whole)} vectors of {whole.shape[1]} numbers in {out}", err=True)
