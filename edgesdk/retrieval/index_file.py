"""The file of an index: one SQLite database, whose tables are these and no others.

A file may come from a stranger, and a schema can hold code (views, triggers): one that is not word for word
ours is refused before anything is asked of it. All changes are transactions of SQLite's rollback journal, so
a process that is killed leaves the index as it was before the files that it was at.

Source: SQLite's documentation, "FTS5" and, for files that are not trusted, "Defense Against The Dark Arts".
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgesdk.errors import RetrievalError, first_line

APPLICATION_ID = 0x45445849  # "EDXI"
FORMAT = 1
_WAIT_S = 10.0

WORDS: Mapping[str, str] = {
    "english": "porter unicode61 remove_diacritics 2",
    "plain": "unicode61 remove_diacritics 2",
    "trigram": "trigram case_sensitive 0",
}
"""How texts are taken apart: English words by their stems; words of any language that has spaces; three
letters each, for languages without."""


_OF_FTS5 = (
    "CREATE TABLE 'texts_data'(id INTEGER PRIMARY KEY, block BLOB)",
    "CREATE TABLE 'texts_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID",
    "CREATE TABLE 'texts_content'(id INTEGER PRIMARY KEY, c0, c1)",
    "CREATE TABLE 'texts_docsize'(id INTEGER PRIMARY KEY, sz BLOB)",
    "CREATE TABLE 'texts_config'(k PRIMARY KEY, v) WITHOUT ROWID",
)
"""What FTS5 makes for a table of ours: it would read one with generated columns as well."""


def _tables(words: str) -> tuple[str, ...]:
    return (
        "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        "CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, title TEXT NOT NULL, "
        "digest BLOB NOT NULL, size INTEGER NOT NULL, changed INTEGER NOT NULL) STRICT",
        "CREATE TABLE passages (id INTEGER PRIMARY KEY, "
        "file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, "
        "start INTEGER NOT NULL, vector BLOB) STRICT",
        "CREATE INDEX passages_of_files ON passages (file)",
        f"CREATE VIRTUAL TABLE texts USING fts5 (title, text, tokenize='{WORDS[words]}')",
        "CREATE VIRTUAL TABLE terms USING fts5vocab (texts, 'row')",
    )


def open_index_file(path: Path) -> tuple[sqlite3.Connection, str]:
    """Opens the index in a file; with how it takes texts apart, a key of `WORDS`.

    Raises:
        RetrievalError: there is none, or it is damaged, in use, or no index of this version.
    """
    if path.exists() and not path.is_file():
        raise RetrievalError(f"{path} is no file; name the file of an index")
    if not path.is_file():
        raise RetrievalError(f"{path} is not there; make an index with: edgesdk index build {path} FOLDER")
    if not _may_be_one(path):
        raise RetrievalError(f"{path} is no index of texts; name another file")
    connection = _connect(path)
    try:
        with said(path):
            return connection, _check(connection, path)
    except BaseException:
        connection.close()
        raise


def holds_nothing(path: Path) -> bool:
    """Whether a file holds no index yet: who made it was killed before the first transaction ended.

    Raises:
        RetrievalError: it is in use, or cannot be read.
    """
    if not path.is_file() or not _may_be_one(path):
        return False
    with contextlib.closing(_connect(path)) as connection, said(path):
        return not _number(connection, "page_count")  # looking rolls back what was begun


def _may_be_one(path: Path) -> bool:
    """Whether it begins as SQLite's files do, is empty, or has pages in it that a journal says are to go."""
    if Path(f"{path}-journal").is_file():
        return True
    with path.open("rb") as file:
        head = file.read(16)
    return not head or head.startswith(b"SQLite format 3\0")


def create_index_file(path: Path, words: str, about: Mapping[str, str]) -> sqlite3.Connection:
    """Makes an empty index where no file is.

    Args:
        path: of the new file.
        words: how texts are taken apart, a key of `WORDS`.
        about: what else the index says of itself.

    Raises:
        RetrievalError: the file cannot be made.
    """
    if not path.parent.is_dir():
        raise RetrievalError(f"the folder {path.parent} is not there; make it first")
    connection = _connect(path)
    try:
        with said(path), transaction(connection):
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise RetrievalError(f"{path} was made meanwhile; try again")
            for statement in _tables(words):
                connection.execute(statement)
            connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything within is written, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def said(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into one line.

    Raises:
        RetrievalError: naming the file.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        name = getattr(error, "sqlite_errorname", "")  # Python's own have none: text that is no UTF-8
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise RetrievalError(f"{path} is in use by another process; try again when it is done") from error
        raise RetrievalError(f"{path} cannot be used: {first_line(error)}") from error
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise RetrievalError(
            f"{path} is damaged ({first_line(error)}); remove it and build it again"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    with said(path):
        # Statements begin transactions where this file says so, not where Python guesses.
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        # What a transaction writes stays in memory until it ends: spilled, it would lock readers out.
        connection.execute("PRAGMA cache_spill = OFF")
        connection.execute("PRAGMA mmap_size = 0")  # a file that shrinks would end the process
        connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> str:
    if not _number(connection, "page_count"):  # what a killed process had begun is rolled back by now
        raise RetrievalError(f"{path} was never finished; make it with: edgesdk index build {path} FOLDER")
    if _number(connection, "application_id") != APPLICATION_ID:
        raise RetrievalError(f"{path} is a database, but no index of texts; name another file")
    version = _number(connection, "user_version")
    if version != FORMAT:
        raise RetrievalError(f"{path} has format {version}, expected {FORMAT}; build it again")
    entries = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL LIMIT 100").fetchall()
    found = sorted(str(sql) for (sql,) in entries)
    for words in WORDS:
        if found == sorted((*_tables(words), *_OF_FTS5)):
            return words
    raise RetrievalError(f"{path} has other tables than an index of texts; build it again")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
