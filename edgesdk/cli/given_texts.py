"""Texts as commands are given them: files, lines of files, or lines of standard input."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edgesdk.cli.options import read_text_file
from edgesdk.errors import UnsupportedOption

_LONGEST_INPUT_BYTES = 64 << 20


class GivenText(NamedTuple):
    """A text, and where it comes from: a file or `-`, and the line, if it is one."""

    source: str
    line: int | None
    text: str


def given_texts(files: Sequence[Path], lines: bool) -> Iterator[GivenText]:
    """Texts of files, or the lines of standard input where there are none.

    Args:
        files: each a text.
        lines: every line of a file is a text of its own.

    Raises:
        UnsupportedOption: something is too large, or no text.
    """
    if not files:
        yield from _lines("-", _read_input())
    for path in files:
        text = read_text_file(path)
        if lines:
            yield from _lines(str(path), text)
        else:
            yield GivenText(str(path), None, text)


def _read_input() -> str:
    """Standard input as text.

    Raises:
        UnsupportedOption: it is too large, or no text.
    """
    data = sys.stdin.buffer.read(_LONGEST_INPUT_BYTES + 1)
    if len(data) > _LONGEST_INPUT_BYTES:
        raise UnsupportedOption(
            f"standard input has more than {_LONGEST_INPUT_BYTES >> 20} MiB; give it in parts"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsupportedOption(f"standard input is not UTF-8 text (byte {error.start})") from error


def _lines(source: str, text: str) -> Iterator[GivenText]:
    # Not str.splitlines: a form feed or U+2028 within a line ends none for whoever counts lines.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield GivenText(source, number, line.removesuffix("\n"))
