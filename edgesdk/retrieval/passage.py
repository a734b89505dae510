"""What an index holds and finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Passage:
    """A piece of a text, as a search found it.

    Attributes:
        id: its number in the index; another one after the file changed.
        path: the file.
        title: the file's own title, or its name without the suffix.
        text: the piece.
        start: where it begins, in characters of the text that was read from the file.
        score: how well it matches, larger is better: BM25, or the cosine of embeddings where it was ranked
            by those.
    """

    id: int
    path: Path
    title: str
    text: str
    start: int
    score: float


@dataclass(frozen=True)
class Unread:
    """A file that could not be indexed, and why, in one line."""

    path: Path
    why: str


@dataclass(frozen=True)
class IndexReport:
    """What became of the files that were given.

    Attributes:
        added: files that were not in the index.
        changed: files whose content was another.
        unchanged: files that are as they were.
        removed: files that are gone from a folder that was given.
        passages: pieces written.
        unread: files that could not be read; if they were in the index, what it had of them stays.
    """

    added: int
    changed: int
    unchanged: int
    removed: int
    passages: int
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class IndexStats:
    """What is in an index.

    Attributes:
        path: the file.
        files: how many texts.
        passages: how many pieces.
        words: how its texts were taken apart for search: `english`, `plain` or `trigram`.
        characters: of all pieces.
        size_bytes: of the index.
        embedder: the model whose embeddings stand beside the passages; None without any.
    """

    path: Path
    files: int
    passages: int
    words: str
    characters: int
    size_bytes: int
    embedder: str | None
