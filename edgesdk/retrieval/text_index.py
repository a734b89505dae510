"""An index of the user's texts: one file, searched by BM25, kept up with what changes.

Passages of a question's words come by BM25 (FTS5); where the index has embeddings, they are ranked again by
their likeness to the question. The index holds copies of the texts, so that they are found as they were read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from edgesdk.errors import RetrievalError, UnsupportedOption, first_line, quoted
from edgesdk.retrieval.embedder import Embedder, check_vectors, ranked
from edgesdk.retrieval.index_file import WORDS, create_index_file, open_index_file, said, transaction
from edgesdk.retrieval.match_query import match_query, prepare_matching
from edgesdk.retrieval.passage import IndexReport, IndexStats, Passage, Unread
from edgesdk.retrieval.read_text import Text, no_text, read_text, text_files
from edgesdk.retrieval.split_passages import split_passages

MOST_FOUND = 1000
_CANDIDATES = 100
_FILES_A_TIME = 64

IndexProgress = Callable[[int, int], None]
"""Told how many files are done, and how many passages were written."""


@dataclass
class _Tally:
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    passages: int = 0
    unread: list[Unread] = field(default_factory=list)

    def report(self) -> IndexReport:
        return IndexReport(
            self.added, self.changed, self.unchanged, self.removed, self.passages, tuple(self.unread)
        )


class TextIndex:
    """An index in a file. It may be used from any thread, one at a time; readers and a writer may be several
    processes.

    Use `open_index` or `make_index`.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, words: str, embedder: Embedder | None
    ) -> None:
        self.path = path
        self._db = connection
        self._lock = threading.Lock()
        self._embedder = embedder
        with said(path):
            about = dict(connection.execute("SELECT key, value FROM about"))
        self.words = words
        self.embedder_name = about.get("embedder")
        if embedder is not None and embedder.name != self.embedder_name:
            raise RetrievalError(
                f"{path} has {_named(self.embedder_name)}, the model given is {embedder.name}; "
                "build the index again with it, or open it without"
            )
        with said(path):
            prepare_matching(connection, WORDS[self.words])

    def __enter__(self) -> Self:
        """Gives the index."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Closes the file; may be called again."""
        with self._lock:
            self._db.close()

    def add(self, paths: Sequence[str | Path], progress: IndexProgress | None = None) -> IndexReport:
        """Reads files and folders into the index, or again what has changed since.

        What it has of files that are gone from a given folder is removed. Files become part of it a few at a
        time, each whole: whoever is killed in between goes on where it was by calling this again.

        Args:
            paths: files (.txt, .md, .html, .pdf) and folders, with all that is in them.
            progress: told how far it is.

        Raises:
            RetrievalError: a path is not there, no text is in it, or the index is in use or damaged.
            MissingExtra: what reads a kind of files is not installed.
        """
        given = [Path(os.path.abspath(path)) for path in paths]
        files = text_files(given)
        tally = _Tally()
        with self._used():
            if not files and not self._gone(given, set()):
                raise no_text(given)
            for begin in range(0, len(files), _FILES_A_TIME):
                self._add_some(files[begin : begin + _FILES_A_TIME], tally, progress, begin)
            with transaction(self._db):
                for path in self._gone(given, set(files)):
                    self._forget(path)
                    tally.removed += 1
        return tally.report()

    def search(self, question: str, *, top: int = 10) -> list[Passage]:
        """The passages that match a question best, the best first; fewer where fewer match.

        Args:
            question: any text, in words that the texts use.
            top: most passages, at most 1,000.

        Raises:
            UnsupportedOption: an argument has no meaning.
            RetrievalError: the index is in use or damaged.
        """
        if not isinstance(question, str):
            raise UnsupportedOption(f"the question is {quoted(question)}, expected a text")
        if type(top) is not int or not 1 <= top <= MOST_FOUND:
            raise UnsupportedOption(f"top is {quoted(top)}, expected 1 to {MOST_FOUND}")
        with self._used():
            matched = match_query(self._db, question, self.words)
            if matched is None:
                return []
            found = self._matching(matched, top if self._embedder is None else max(top, _CANDIDATES))
            if self._embedder is None:
                return found
            vectors = self._vectors(found)
        return ranked(self._embedder, question, found, vectors)[:top]

    def stats(self) -> IndexStats:
        """What is in it.

        Raises:
            RetrievalError: the index is in use or damaged.
        """
        with self._used():
            (files,) = self._db.execute("SELECT count(*) FROM files").fetchone()
            (passages,) = self._db.execute("SELECT count(*) FROM passages").fetchone()
            (characters,) = self._db.execute("SELECT coalesce(sum(length(text)), 0) FROM texts").fetchone()
        size = self.path.stat().st_size
        return IndexStats(self.path, files, passages, self.words, characters, size, self.embedder_name)

    def check(self) -> None:
        """Reads the whole file and compares it with its own search tables.

        Raises:
            RetrievalError: it is damaged.
        """
        with self._used():
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise RetrievalError(
                    f"{self.path} is damaged ({' '.join(str(found).split())[:200]}); build it again"
                )
            with transaction(self._db):
                self._db.execute("INSERT INTO texts (texts, rank) VALUES ('integrity-check', 0)")

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        with self._lock, said(self.path):
            yield

    def _add_some(
        self, files: Sequence[Path], tally: _Tally, progress: IndexProgress | None, done: int
    ) -> None:
        """Reads some files, then writes them at once."""
        read: list[tuple[Path, os.stat_result, bytes, Text]] = []
        for path in files:
            try:
                status = path.stat()
                known = self._known(path)
                if known is not None and known[1:] == (status.st_size, status.st_mtime_ns):
                    tally.unchanged += 1
                    continue
                text = read_text(path)
            except (RetrievalError, OSError) as error:
                tally.unread.append(Unread(path, first_line(error)))
                continue
            read.append((path, status, _digest(text), text))
        with transaction(self._db):
            for path, status, digest, text in read:
                self._write(path, status, digest, text, tally)
        if progress is not None:
            progress(done + len(files), tally.passages)

    def _write(self, path: Path, status: os.stat_result, digest: bytes, text: Text, tally: _Tally) -> None:
        known = self._known(path)
        kept = (str(path), text.title, digest, status.st_size, status.st_mtime_ns)
        if known is not None and known[0] == digest:
            self._db.execute(
                "UPDATE files SET size = ?, changed = ? WHERE path = ?",
                (status.st_size, status.st_mtime_ns, str(path)),
            )
            tally.unchanged += 1
            return
        if known is not None:
            self._forget(path)
        (number,) = self._db.execute(
            "INSERT INTO files (path, title, digest, size, changed) VALUES (?, ?, ?, ?, ?) RETURNING id", kept
        ).fetchone()
        pieces = split_passages(text)
        (first,) = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM passages").fetchone()
        vectors: Sequence[bytes | None] = [None] * len(pieces)
        if self._embedder is not None and pieces:
            vectors = check_vectors(self._embedder, self._embedder.embed([piece.text for piece in pieces]))
        self._db.executemany(
            "INSERT INTO passages VALUES (?, ?, ?, ?)",
            [(first + i, number, piece.start, vectors[i]) for i, piece in enumerate(pieces)],
        )
        self._db.executemany(
            "INSERT INTO texts (rowid, title, text) VALUES (?, ?, ?)",
            [(first + i, text.title, piece.text) for i, piece in enumerate(pieces)],
        )
        tally.passages += len(pieces)
        if known is None:
            tally.added += 1
        else:
            tally.changed += 1

    def _known(self, path: Path) -> tuple[bytes, int, int] | None:
        row: tuple[bytes, int, int] | None = self._db.execute(
            "SELECT digest, size, changed FROM files WHERE path = ?", (str(path),)
        ).fetchone()
        return row

    def _gone(self, given: Sequence[Path], present: set[Path]) -> list[Path]:
        """What it has of files that are no longer in the given folders."""
        folders = [path for path in given if path.is_dir()]
        known = (Path(name) for (name,) in self._db.execute("SELECT path FROM files ORDER BY id"))
        return [path for path in known if path not in present and any(map(path.is_relative_to, folders))]

    def _forget(self, path: Path) -> None:
        self._db.execute(
            "DELETE FROM texts WHERE rowid IN "
            "(SELECT passages.id FROM passages JOIN files ON passages.file = files.id WHERE files.path = ?)",
            (str(path),),
        )
        self._db.execute("DELETE FROM files WHERE path = ?", (str(path),))

    def _matching(self, matched: str, top: int) -> list[Passage]:
        rows = self._db.execute(
            "SELECT best.id, files.path, files.title, texts.text, passages.start, best.score FROM "
            "(SELECT rowid AS id, -rank AS score FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT ?) best "
            "JOIN passages ON passages.id = best.id JOIN files ON files.id = passages.file "
            "JOIN texts ON texts.rowid = best.id ORDER BY best.score DESC, best.id",
            (matched, top),
        )
        return [
            Passage(number, Path(path), title, text, start, score)
            for number, path, title, text, start, score in rows
        ]

    def _vectors(self, found: Sequence[Passage]) -> list[bytes]:
        vectors = []
        for passage in found:
            (vector,) = self._db.execute("SELECT vector FROM passages WHERE id = ?", (passage.id,)).fetchone()
            vectors.append(vector)
        return vectors


def open_index(path: str | Path, *, embedder: Embedder | None = None) -> TextIndex:
    """Opens an index.

    Args:
        path: its file.
        embedder: the model that its embeddings are of, to rank what is found by them; without one, what
            BM25 says counts.

    Raises:
        RetrievalError: there is none, it is damaged, in use, or of another embedding model.
    """
    path = Path(path)
    connection, words = open_index_file(path)
    return _opened(path, connection, words, embedder)


def make_index(path: str | Path, *, words: str = "english", embedder: Embedder | None = None) -> TextIndex:
    """Makes an empty index, or opens one that is there if it was made alike.

    Args:
        path: its file.
        words: `english`: words by their stems; `plain`: words; `trigram`: for languages without spaces.
        embedder: the model whose embeddings of the passages are kept beside them.

    Raises:
        UnsupportedOption: there are no such words.
        RetrievalError: the file cannot be made, or an index of another kind is there.
    """
    path = Path(path)
    if words not in WORDS:
        raise UnsupportedOption(f"words is {quoted(words)}, expected {', '.join(WORDS)}")
    if path.exists():
        index = open_index(path, embedder=embedder)
        if index.words != words:
            index.close()
            raise RetrievalError(
                f"{path} is there, of words {index.words}; give another file, or these words"
            )
        return index
    about = {} if embedder is None else {"embedder": embedder.name}
    return _opened(path, create_index_file(path, words, about), words, embedder)


def _opened(path: Path, connection: sqlite3.Connection, words: str, embedder: Embedder | None) -> TextIndex:
    try:
        return TextIndex(path, connection, words, embedder)
    except BaseException:
        connection.close()
        raise


def _digest(text: Text) -> bytes:
    return hashlib.sha256(f"{text.title}\0{text.text}".encode("utf-8", "surrogatepass")).digest()


def _named(embedder: str | None) -> str:
    return "no embeddings" if embedder is None else f"embeddings of {embedder}"
