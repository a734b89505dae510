"""How a conversion's progress is shown: one line that is written over, stages one a line, or JSON lines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from edgesdk.bundle.printable import printable
from edgesdk.cli.output import print_json

if TYPE_CHECKING:
    from edgesdk_converters.progress import Progress


class ProgressLine:
    """Context manager that shows progress on standard error.

    On a terminal one line is written over and is gone in the end; elsewhere every stage is a line, and
    what happens within it is left out.
    """

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self._terminal = sys.stderr.isatty()
        self._shown = 0
        self._step: int | None = None

    def __enter__(self) -> Self:
        """Begins."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves a clean line."""
        self.clear()

    def __call__(self, progress: Progress) -> None:
        """Shows where a conversion is; notes stay on the screen."""
        if progress.stage == "note":
            self.clear()
            click.echo(printable(progress.what), err=True)
            return
        left = "" if progress.remaining_s is None else f", about {_duration(progress.remaining_s)} left"
        self.show(
            f"[{progress.share:4.0%}, {_duration(progress.seconds)}{left}] {progress.what}", progress.step
        )

    def show(self, line: str, step: int | None = None) -> None:
        """Shows any line.

        Args:
            line: what happens.
            step: elsewhere than on a terminal, only the first line of a step is shown; None for always.
        """
        text = printable(line)
        if not self._terminal:
            if step is None or step != self._step:
                click.echo(text, err=True)
            self._step = step
            return
        text = text[: max(shutil.get_terminal_size().columns - 1, 10)]
        click.echo("\r" + text + " " * (self._shown - len(text)), nl=False, err=True)
        self._shown = len(text)

    def clear(self) -> None:
        """Removes the line, so that something else can be printed."""
        if self._shown:
            click.echo("\r" + " " * self._shown + "\r", nl=False, err=True)
            self._shown = 0


def print_event(progress: Progress) -> None:
    """Prints progress as one JSON object on a line of standard output."""
    print_json({"event": "progress", **asdict(progress)}, one_line=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def tell_counts(what: str) -> Callable[[int, int], None] | None:
    """A line on a terminal's standard error that says how far it is."""
    if not sys.stderr.isatty():
        return None
    return lambda done, total: click.echo(f"\r{done} of {total} {what}", nl=done == total, err=True)
