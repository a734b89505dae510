"""From a question to what FTS5 matches: its words, the rare ones first, as many as a search has time for.

BM25 scores every passage that holds any word of a question, so one common word costs as much as all others
together and tells next to nothing. Words that a question shares with too many passages are left out, the
commonest first; the rarest is always kept.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

MOST_CHARACTERS = 20_000
_MOST_WORDS = 64
_MOST_MATCHES = 40_000
_SPLIT = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class _Word:
    quoted: str
    matches: int


def match_query(connection: sqlite3.Connection, question: str, words: str) -> str | None:
    """What to match; None where no word of the question is in the index.

    Args:
        connection: of an index.
        question: any text; what is beyond 20,000 characters is not read.
        words: how the index takes texts apart.
    """
    found = sorted(_words(connection, question[:MOST_CHARACTERS], words), key=lambda word: word.matches)
    kept: list[str] = []
    total = 0
    for word in found[:_MOST_WORDS]:
        total += word.matches
        if kept and total > _MOST_MATCHES:
            break
        kept.append(word.quoted)
    return " OR ".join(kept) or None


def _words(connection: sqlite3.Connection, question: str, words: str) -> list[_Word]:
    """Each word once, with the number of passages that its rarest term is in.

    The index's own tokenizer takes the question apart, in a table of its own: no second stemmer can differ.
    """
    pieces = list(dict.fromkeys(piece.lower() for piece in _SPLIT.findall(question)))
    terms = _terms(connection, pieces)
    if words == "trigram":
        # A run of letters is no word there; each of its terms is looked for by itself.
        pieces = list(dict.fromkeys(term for each in terms for term in each))
        terms = [[piece] for piece in pieces]
    counted = []
    for piece, own in zip(pieces, terms, strict=True):
        matches = min((_matches(connection, term) for term in own), default=0)
        if matches:
            counted.append(_Word(f'"{piece}"', matches))
    return counted


def _terms(connection: sqlite3.Connection, pieces: list[str]) -> list[list[str]]:
    connection.execute("DELETE FROM temp.asked")
    connection.executemany("INSERT INTO temp.asked (rowid, text) VALUES (?, ?)", enumerate(pieces))
    terms: list[list[str]] = [[] for _ in pieces]
    for term, row in connection.execute("SELECT term, doc FROM temp.asked_terms ORDER BY doc, offset"):
        terms[row].append(term)
    return terms


def prepare_matching(connection: sqlite3.Connection, tokenizer: str) -> None:
    """Makes the tables that questions are taken apart in, which live as long as the connection.

    Args:
        connection: of an index.
        tokenizer: of the index, as FTS5 names it.
    """
    connection.execute(f"CREATE VIRTUAL TABLE temp.asked USING fts5 (text, tokenize='{tokenizer}')")
    connection.execute("CREATE VIRTUAL TABLE temp.asked_terms USING fts5vocab (temp, asked, 'instance')")


def _matches(connection: sqlite3.Connection, term: str) -> int:
    row = connection.execute("SELECT doc FROM terms WHERE term = ?", (term,)).fetchone()
    return 0 if row is None else int(row[0])
