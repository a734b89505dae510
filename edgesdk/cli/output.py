"""How commands print: one JSON document or tables on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.records import JsonValue, to_json

if TYPE_CHECKING:
    from edgesdk.bundle.manifest import GreedyAgreement, Variant
    from edgesdk.bundle.reader import Bundle
    from edgesdk.decoding.completion import Completion
    from edgesdk.devices.receipt import Receipt

_NARROWEST = 120
"""Columns of a table that does not go to a terminal: nobody wraps it there."""


def print_json(document: object) -> None:
    """Prints one JSON document.

    Args:
        document: dataclasses, mappings, sequences and scalars; figures that are not finite become null.
    """
    click.echo(json.dumps(_finite(to_json(document)), indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Prints a table.

    Args:
        header: names of the columns; one that ends in `>` is set flush right.
        rows: cells.
        title: line above.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", pad_edge=False)
    for name in header:
        right = name.endswith(">")
        table.add_column(name.rstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        # Text, not markup: a name from a bundle must not be taken for a colour.
        table.add_row(*(Text(printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else _NARROWEST
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Prints names and values, one a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"{name:{width}}  {printable(value)}")


def show_receipt(receipt: Receipt) -> None:
    """Prints on standard error what runs a model, and everything that was refused on the way."""
    for line in receipt_lines(receipt):
        click.echo(line, err=True)


def show_changes(before: Receipt, after: Receipt) -> None:
    """Prints on standard error what changed in the middle of the work.

    Args:
        before: as it was shown last.
        after: as it is now.
    """
    for incident in after.incidents[len(before.incidents) :]:
        click.echo(printable(str(incident)), err=True)


def receipt_lines(receipt: Receipt) -> list[str]:
    """A receipt as text: refusals and notes, then what runs the model."""
    lines = [str(refusal) for refusal in receipt.refusals]
    lines += [str(incident) for incident in receipt.incidents]
    lines += [f"note: {note}" for note in receipt.notes]
    if receipt.goal is not None:
        lines.append(f"chosen for {receipt.goal}, {receipt.choice}")
    runners = {phase.runner for phase in receipt.phases}
    if len(runners) > 1:
        lines += [f"{phase.phase}: {phase.runner}" for phase in receipt.phases]
    share = receipt.accelerated_share
    provider = receipt.provider if share is None else f"{receipt.provider}, {share:.0%} of operations"
    parts = [
        f"{receipt.bundle} {receipt.variant}",
        f"{receipt.backend} on {receipt.device} ({provider})",
        f"{receipt.threads} thread{'s' if receipt.threads != 1 else ''}",
        f"loaded in {receipt.load_ms:.0f} ms",
        f"files {receipt.integrity}",
    ]
    if receipt.weight_cache is not None:
        parts.append(f"packed weights {'found' if receipt.weight_cache == 'hit' else receipt.weight_cache}")
    return [printable(line) for line in (*lines, "; ".join(parts))]


def show_speed(completion: Completion) -> None:
    """Prints on standard error how fast an answer came, and whether it was cut."""
    decode = completion.decode_tokens_per_s
    parts = [
        f"{completion.prompt_tokens} prompt tokens at {completion.prefill_tokens_per_s:.0f}/s",
        f"first token after {completion.ttft_ms:.0f} ms",
        f"{completion.new_tokens} new tokens" + ("" if decode is None else f" at {decode:.0f}/s"),
    ]
    if completion.finish_reason == "length":
        parts.append("cut at its length")
    click.echo("; ".join(parts), err=True)


def stage_printer() -> Callable[[str], None]:
    """A function that prints stages on standard error, each with the seconds since the first."""
    started = time.perf_counter()

    def say(line: str) -> None:
        click.echo(f"[{time.perf_counter() - started:6.1f} s] {line}", err=True)

    return say


def printable(text: str) -> str:
    """The text in one line, without control characters: much of it comes from files of others."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def megabytes(size_bytes: int | None) -> str:
    """Bytes in millions; `-` where they are not known."""
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def variant_bytes(bundle: Bundle, variant: Variant) -> int:
    """Size of all files of one variant."""
    folder = f"{PurePosixPath(variant.entry).parent}/"
    files = bundle.manifest.files
    return sum(record.size_bytes for name, record in files.items() if name.startswith(folder))


def greedy_text(greedy: GreedyAgreement | None) -> str:
    """Agreement of generated texts in a few words."""
    if greedy is None:
        return "-"
    near = f", {greedy.near_ties} near-tie{'s' if greedy.near_ties != 1 else ''}" if greedy.near_ties else ""
    return f"{greedy.identical} of {greedy.prompts} identical{near}"


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
