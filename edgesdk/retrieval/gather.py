"""From queries to the passages that the model is given: each once, files in turn, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgesdk.retrieval.passage import Passage
from edgesdk.retrieval.text_index import TextIndex
from edgesdk.text.tokenizer import Tokenizer

_PASSAGES_A_FILE = 5


def gather(index: TextIndex, question: str, queries: Sequence[str], files: int, most: int) -> list[Passage]:
    """Passages for a question.

    Each query brings the passages of its best files. Within a file those come first that match the question
    as it was asked best; files take turns, so that no long one fills the room alone.

    Args:
        index: where to search.
        question: as it was asked.
        queries: what to search for, the question among them.
        files: most files for each query.
        most: most passages.

    Raises:
        RetrievalError: the index is in use or damaged.
    """
    by_file: dict[Path, dict[int, Passage]] = {}
    for query in dict.fromkeys(queries):
        brought: set[Path] = set()
        for passage in index.search(query, top=files * _PASSAGES_A_FILE):
            if passage.path not in brought and len(brought) == files:
                continue
            brought.add(passage.path)
            by_file.setdefault(passage.path, {}).setdefault(passage.id, passage)
    # The question's own order; what only another query found comes after, as it came.
    place = {passage.id: i for i, passage in enumerate(index.search(question, top=200))}
    piles = [
        sorted(found.values(), key=lambda passage: place.get(passage.id, len(place)))
        for found in by_file.values()
    ]
    piles.sort(key=lambda pile: place.get(pile[0].id, len(place)))
    turns = max(map(len, piles), default=0)
    taken = [pile[turn] for turn in range(turns) for pile in piles if turn < len(pile)]
    return taken[:most]


def fit(
    passages: Sequence[Passage], tokenizer: Tokenizer, most_tokens: int, *, numbered: bool = False
) -> tuple[list[Passage], str]:
    """The first passages that fit together, and what the model reads of them; the last may be cut.

    Special tokens are taken out of texts: there they would end a message or begin another.

    Args:
        passages: the best first.
        tokenizer: the model's.
        most_tokens: of all together.
        numbered: whether each begins with its number and its title.
    """
    specials = [
        text
        for text in (tokenizer.decode([i], skip_special=False) for i in tokenizer.special_ids)
        if text.strip()  # a space in place of a space would go on for ever
    ]
    kept: list[Passage] = []
    parts: list[str] = []
    left = most_tokens
    for passage in passages:
        head = f"[{len(kept) + 1}] {_plain(passage.title, specials)}\n" if numbered else ""
        text = head + _plain(passage.text, specials)
        ids = tokenizer.encode(text, add_bos=False)
        if len(ids) + 1 > left:
            least = len(tokenizer.encode(head, add_bos=False)) + _LEAST_TOKENS
            if kept or left < least:
                break
            text = tokenizer.decode(ids[: left - 1]).rstrip("\ufffd")
            ids = ids[: left - 1]
        kept.append(passage)
        parts.append(text)
        left -= len(ids) + 1
    return kept, "\n\n".join(parts)


_LEAST_TOKENS = 16


def _plain(text: str, specials: Sequence[str]) -> str:
    """A text without special tokens, also without those that taking one out would make."""
    found = True
    while found:
        found = False
        for special in specials:
            if special in text:
                text, found = text.replace(special, " "), True
    return text
