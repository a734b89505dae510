"""How commands print: one JSON document or tables on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.printable import printable
from edgesdk.bundle.records import JsonValue, to_json

if TYPE_CHECKING:
    from edgesdk.bundle.adapter_record import AdapterRecord
    from edgesdk.bundle.manifest import ChatAgreement, GreedyAgreement
    from edgesdk.bundle.vector_parity import VectorFigures
    from edgesdk.decoding.completion import Completion
    from edgesdk.devices.receipt import Receipt
    from edgesdk.dispatch.exit_sequence import ExitFigures
    from edgesdk.load_options import LoadOptions

_WIDEST = 10_000
"""Columns of a table that does not go to a terminal: nobody wraps it there."""


VECTOR_HEADER = ("cosine>", "least>", "order>")
"""Columns of `vector_cells`."""


def vector_cells(figures: VectorFigures | None) -> tuple[str, ...]:
    """Cells of a table that say how close vectors are to the reference's."""
    if figures is None:
        return ("-",) * len(VECTOR_HEADER)
    return tuple(f"{n:.4f}" for n in (figures.cosine_mean, figures.cosine_least, figures.order_agreement))


def print_json(document: object, *, one_line: bool = False) -> None:
    """Prints one JSON document.

    Args:
        document: dataclasses, mappings, sequences and scalars; figures that are not finite become null.
        one_line: for a stream of documents, each of which is read as soon as its line is there.
    """
    indent = None if one_line else 2
    click.echo(json.dumps(_finite(to_json(document)), indent=indent, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Prints a table, whose words are never broken.

    Piped, each row is one line, however long. On a terminal cells are wrapped between words, the first
    column not at all; where even that does not fit, each row becomes a list of its cells.

    Args:
        header: names of the columns; one that ends in `>` is set flush right.
        rows: cells.
        title: line above.
    """
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    names = [name.rstrip(">") for name in header]
    cells = [[printable(cell) for cell in row] for row in rows]
    terminal = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        right = name.endswith(">")
        table.add_column(
            names[index], justify="right" if right else "left", no_wrap=not terminal or index == 0
        )
    for row in cells:
        # Text, not markup: a name from a bundle must not be taken for a colour.
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout, width=None if terminal else _WIDEST, highlight=False)
    unbounded = console.options.update(max_width=_WIDEST)  # measured within less, it is cut to that
    if terminal and Measurement.get(console, unbounded, table).minimum > console.width:
        _print_lists(names, cells, title)
        return
    with console.capture() as captured:
        if title is not None:  # of its own: a table breaks its title where its columns end
            console.print(Text(printable(title), style="bold"))
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()) + "\n")


def _print_lists(names: Sequence[str], rows: Sequence[Sequence[str]], title: str | None) -> None:
    """A table that is wider than the terminal, one line for each cell."""
    if title is not None:
        click.echo(printable(title))
    for row in rows:
        click.echo()
        print_facts([(name, cell) for name, cell in zip(names, row, strict=True) if cell])
    click.echo()


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Prints names and values, one a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"{name:{width}}  {printable(value)}")


def show_receipt(receipt: Receipt, asked: LoadOptions) -> None:
    """Prints on standard error what runs a model, and everything that was refused on the way.

    Args:
        receipt: of the load.
        asked: how it was loaded; that a device was named and another one answers is said last.
    """
    click.echo(str(receipt), err=True)
    if asked.kind not in (None, receipt.device) and not asked.serve_meanwhile:
        line = f"note: {asked.device} was asked for, and {receipt.device} answers; --strict fails instead"
        click.echo(line, err=True)


def show_changes(before: Receipt, after: Receipt) -> None:
    """Prints on standard error what changed in the middle of the work.

    Args:
        before: as it was shown last.
        after: as it is now.
    """
    for incident in after.incidents[len(before.incidents) :]:
        click.echo(printable(str(incident)), err=True)


def show_thought(piece: str) -> None:
    """A piece of what a reasoning model thinks before it answers: beside the answer, not in it."""
    click.echo(click.style(piece, dim=True), nl=False, err=True)


def show_speed(completion: Completion) -> None:
    """Prints on standard error how fast an answer came, and whether it was cut."""
    decode = completion.decode_tokens_per_s
    parts = [
        f"{completion.prompt_tokens} prompt tokens at {completion.prefill_tokens_per_s:.0f}/s",
        f"first token after {completion.ttft_ms:.0f} ms",
        f"{completion.new_tokens} new tokens" + ("" if decode is None else f" at {decode:.0f}/s"),
    ]
    if completion.drafted_tokens:
        parts.append(
            f"{completion.kept_tokens} of {completion.drafted_tokens} drafted tokens kept, "
            f"{completion.tokens_per_step:.1f} tokens a step"
        )
    if completion.exits is not None:
        parts.append(show_exits(completion.exits))
    if completion.finish_reason == "length":
        parts.append("cut at its length")
    click.echo("; ".join(parts), err=True)


def show_exits(figures: ExitFigures) -> str:
    """How early an answer or a text left, in one line."""
    told = ", ".join(f"{count} after {blocks}" for blocks, count in figures.exits.items())
    filled = f", {figures.filled} tokens filled up" if figures.filled else ""
    counted = f" ({told}{filled})" if told else ""  # the first token is the prompt's
    by = ", by a head over labels" if figures.head == "labels" else ""
    return f"{figures.blocks_share:.0%} of blocks run, {figures.work_share:.0%} of the work{by}{counted}"


def stage_printer() -> Callable[[str], None]:
    """A function that prints stages on standard error, each with the seconds since the first."""
    started = time.perf_counter()

    def say(line: str) -> None:
        click.echo(f"[{time.perf_counter() - started:6.1f} s] {line}", err=True)

    return say


def megabytes(size_bytes: int | None) -> str:
    """Bytes in millions; `-` where they are not known."""
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def greedy_text(greedy: GreedyAgreement | None) -> str:
    """Agreement of generated texts in a few words."""
    if greedy is None:
        return "-"
    near = f", {greedy.near_ties} near-tie{'s' if greedy.near_ties != 1 else ''}" if greedy.near_ties else ""
    return f"{greedy.identical} of {greedy.prompts} identical{near}"


def chats_text(chats: ChatAgreement | None) -> str:
    """Chat agreement in a few words."""
    return "-" if chats is None else f"{chats.equal} of {chats.questions}"


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def describe_adapter(record: AdapterRecord) -> str:
    """An adapter in a few words."""
    scale = "" if record.scale == 1 else f", scale {record.scale:g}"
    return (
        f"rank {record.rank} of {record.products} products{scale}, {megabytes(record.size_bytes)} MB, "
        f"sha256 {record.sha256}"
    )
