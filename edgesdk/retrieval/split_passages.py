"""Splits a text into passages: where paragraphs, sentences or, if need be, words end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgesdk.errors import MissingExtra
from edgesdk.retrieval.read_text import Text

if TYPE_CHECKING:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

PASSAGE_CHARACTERS = (600, 1200)
"""A passage has between these where its text allows: 150 to 300 tokens, so some fit a small context."""


@dataclass(frozen=True)
class Piece:
    """A passage as it is indexed.

    Attributes:
        start: where it begins, in characters of the text.
        text: never empty.
    """

    start: int
    text: str


def check_splitters() -> None:
    """Finds out whether texts can be split here, before a file is made for their passages.

    Raises:
        MissingExtra: what splits is not installed.
    """
    _splitters()


def split_passages(text: Text) -> list[Piece]:
    """The passages of a text, in order.

    Raises:
        MissingExtra: what splits is not installed.
    """
    of_markdown, of_text = _splitters()
    splitter = (of_markdown if text.markdown else of_text)(PASSAGE_CHARACTERS)
    return [Piece(start, piece) for start, piece in splitter.chunk_indices(text.text) if piece.strip()]


def _splitters() -> tuple[type[MarkdownSplitter], type[TextSplitter]]:
    try:
        from semantic_text_splitter import MarkdownSplitter, TextSplitter
    except ImportError as error:
        raise MissingExtra("semantic-text-splitter", "retrieval") from error
    return MarkdownSplitter, TextSplitter
