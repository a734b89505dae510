"""An index of the user's texts: one file, searched by BM25, kept up with what changes.

Passages of a question's words come by BM25 (FTS5); where the index has embeddings, they are ranked again by
their likeness to the question. The index holds copies of the texts, so that they are found as they were read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from edgesdk.errors import RetrievalError, UnsupportedOption, first_line, quoted
from edgesdk.retrieval.embedder import Embedder, check_vectors, ranked
from edgesdk.retrieval.index_file import (
    WORDS,
    create_index_file,
    holds_nothing,
    open_index_file,
    said,
    transaction,
)
from edgesdk.retrieval.match_query import match_query, prepare_matching
from edgesdk.retrieval.passage import IndexReport, IndexStats, Passage, Unread
from edgesdk.retrieval.read_text import Text, no_text, read_text, text_files
from edgesdk.retrieval.split_passages import Piece, check_splitters, split_passages

MOST_FOUND = 1000
_CANDIDATES = 100
_FILES_A_TIME = 512
_CHARACTERS_A_TIME = 8 << 20

IndexProgress = Callable[[int, int], None]
"""Told how many files are done, and how many passages were written."""


@dataclass(frozen=True)
class _Read:
    """A file as it is written; without pieces where the index has just this text."""

    path: Path
    status: os.stat_result
    digest: bytes
    title: str
    pieces: Sequence[Piece]
    vectors: Sequence[bytes | None]


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
            RetrievalError: a path is not there, no text is in it, the index is in use or damaged, or it has
                embeddings and was opened without their model.
            MissingExtra: what reads a kind of files is not installed.
        """
        if self._embedder is None and self.embedder_name is not None:
            raise RetrievalError(
                f"{self.path} has {_named(self.embedder_name)}, which new texts need, too; open it with that "
                "model (--embedder)"
            )
        given = [Path(os.path.abspath(path)) for path in paths]
        files = text_files(given)
        tally = _Tally()
        with self._used():
            if not files and not self._gone(given, set()):
                raise no_text(given)
            self._add_files(files, tally, progress)
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

    def _add_files(self, files: Sequence[Path], tally: _Tally, progress: IndexProgress | None) -> None:
        """Reads a few files, also their vectors, which may take long, then writes them at once."""
        read: list[_Read] = []
        held = 0
        for done, path in enumerate(files, 1):
            found = self._read(path, tally)
            if found is not None:
                read.append(found)
                held += sum(len(piece.text) for piece in found.pieces)
            if done % _FILES_A_TIME and done < len(files) and held < _CHARACTERS_A_TIME:
                continue
            with transaction(self._db):
                for each in read:
                    self._write(each, tally)
            read, held = [], 0
            if progress is not None:
                progress(done, tally.passages)

    def _read(self, path: Path, tally: _Tally) -> _Read | None:
        """A file that is not in the index as it is."""
        try:
            _check_name(path)
            status = path.stat()
            known = self._known(path)
            if known is not None and known[1:] == (status.st_size, status.st_mtime_ns):
                tally.unchanged += 1
                return None
            text = read_text(path)
        except (RetrievalError, OSError) as error:
            tally.unread.append(Unread(path, first_line(error)))
            return None
        digest = _digest(text)
        if known is not None and known[0] == digest:
            return _Read(path, status, digest, text.title, (), ())
        pieces = split_passages(text)
        vectors: Sequence[bytes | None] = [None] * len(pieces)
        if self._embedder is not None and pieces:
            given = self._embedder.embed([piece.text for piece in pieces])
            vectors = check_vectors(self._embedder, given, len(pieces))
        return _Read(path, status, digest, text.title, pieces, vectors)

    def _write(self, read: _Read, tally: _Tally) -> None:
        path, status, pieces = str(read.path), read.status, read.pieces
        known = self._known(read.path)
        if known is not None and known[0] == read.digest:
            self._db.execute(
                "UPDATE files SET size = ?, changed = ? WHERE path = ?",
                (status.st_size, status.st_mtime_ns, path),
            )
            tally.unchanged += 1
            return
        if known is not None:
            self._forget(read.path)
        (number,) = self._db.execute(
            "INSERT INTO files (path, title, digest, size, changed) VALUES (?, ?, ?, ?, ?) RETURNING id",
            (path, read.title, read.digest, status.st_size, status.st_mtime_ns),
        ).fetchone()
        (first,) = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM passages").fetchone()
        self._db.executemany(
            "INSERT INTO passages VALUES (?, ?, ?, ?)",
            [(first + i, number, piece.start, read.vectors[i]) for i, piece in enumerate(pieces)],
        )
        self._db.executemany(
            "INSERT INTO texts (rowid, title, text) VALUES (?, ?, ?)",
            [(first + i, read.title, piece.text) for i, piece in enumerate(pieces)],
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
        return [
            path
            for path in known
            if path not in present and any(map(path.is_relative_to, folders)) and _is_gone(path)
        ]

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
        found = [
            Passage(number, Path(path), title, text, start, score)
            for number, path, title, text, start, score in rows
        ]
        if not all(isinstance(each.text, str) and isinstance(each.score, float) for each in found):
            # Tables of FTS5 hold values of any type, so a file of a stranger may.
            raise RetrievalError(f"{self.path} is damaged (a passage is no text); build it again")
        return found

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
        MissingExtra: what splits texts is not installed.
        RetrievalError: the file cannot be made, or an index of another kind is there.
    """
    path = Path(path)
    if words not in WORDS:
        raise UnsupportedOption(f"words is {quoted(words)}, expected {', '.join(WORDS)}")
    if path.exists() and not holds_nothing(path):
        index = open_index(path, embedder=embedder)
        if index.words != words:
            index.close()
            raise RetrievalError(
                f"{path} is there, of words {index.words}; give another file, or these words"
            )
        return index
    check_splitters()
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


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise RetrievalError("its name is no UTF-8 text; rename it") from None


def _is_gone(path: Path) -> bool:
    """Whether there is no such file now: one that is hidden or cannot be reached is still there."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _named(embedder: str | None) -> str:
    return "no embeddings" if embedder is None else f"embeddings of {embedder}"
