"""Splits a text into passages: where paragraphs, sentences or, if need be, words end."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.errors import MissingExtra
from edgesdk.retrieval.read_text import Text

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


def split_passages(text: Text) -> list[Piece]:
    """The passages of a text, in order.

    Raises:
        MissingExtra: what splits is not installed.
    """
    try:
        from semantic_text_splitter import MarkdownSplitter, TextSplitter
    except ImportError as error:
        raise MissingExtra("semantic-text-splitter", "retrieval") from error
    splitter = (MarkdownSplitter if text.markdown else TextSplitter)(PASSAGE_CHARACTERS)
    return [Piece(start, piece) for start, piece in splitter.chunk_indices(text.text) if piece.strip()]
