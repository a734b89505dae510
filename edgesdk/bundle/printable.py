"""Text for one line of a terminal or a log; much of what is shown comes from files of others."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text in one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
