"""A tokenizer.json as data: its tokens by id, its pieces by kind, and which token is built from which.

`TokenizerData` answers what a pruned vocabulary has to know: every token's text, which ids the file
itself refers to, and, for byte-pair encoding, the two tokens that a token is merged from. It chooses
nothing and changes nothing (title: Hugging Face tokenizers, "Components").

Why one pair of parents is enough: merges are applied by rank, and no merge crosses the border of a
token of the result. So the merges inside a token are the same in every text, and the same as when the
token is encoded alone. A token whose ancestors are kept is therefore still built wherever it was built
before, whatever else was removed.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeGuard

from edgesdk.bundle.native_calls import native_call
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import TransformError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Json = dict[str, JsonValue]
ModelKind = Literal["BPE", "Unigram"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BYTES = 256


class TokenizerData:
    """A parsed tokenizer.json beside the loaded tokenizer."""

    def __init__(self, text: str) -> None:
        """Parses a tokenizer.json.

        Args:
            text: of the file.

        Raises:
            TransformError: it does not load, or its model is of a kind that cannot be pruned.
        """
        self.text = text
        self.engine = load_engine(text)
        document = json.loads(text)  # the engine took it, so it is an object
        self.document: Json = document
        self.model = _object(document.get("model"), "model")
        self.kind = _kind(self.model)
        known: dict[str, int] = self.engine.get_vocab(with_added_tokens=True)
        self.ids = known
        self.size = max(known.values(), default=-1) + 1
        self.texts: dict[int, str] = {i: t for t, i in known.items()}
        self.added_ids = frozenset(self.engine.get_added_tokens_decoder())
        self.merges = list(_merges(self.model)) if self.kind == "BPE" else []
        self._ranks = {pair: rank for rank, pair in reversed(list(enumerate(self.merges)))}
        self._parents: dict[int, tuple[int, ...]] = {}

    @cached_property
    def has_byte_fallback(self) -> bool:
        """Whether `<0xXX>` tokens spell every character that has no token of its own."""
        return self.model.get("byte_fallback") is True and len(self.byte_ids) == _BYTES

    @cached_property
    def byte_ids(self) -> frozenset[int]:
        """Ids of the `<0xXX>` tokens."""
        return frozenset(i for text, i in self.ids.items() if _BYTE.fullmatch(text))

    @cached_property
    def alphabet_ids(self) -> frozenset[int]:
        """Tokens without which some text could no longer be spelled.

        The `<0xXX>` tokens where they spell everything; otherwise every token of one character, which
        for byte-level vocabularies are the bytes.
        """
        if self.has_byte_fallback:
            return self.byte_ids
        return self.byte_ids | {i for text, i in self.ids.items() if len(text) == 1}

    def piece_scores(self) -> list[float]:
        """Scores of a Unigram model by id.

        Raises:
            TransformError: the model is of another kind.
        """
        pieces = self.model.get("vocab")
        if self.kind != "Unigram" or not isinstance(pieces, list):
            raise TransformError(f"a {self.kind} model has no scores")
        return [float(p[1]) if _is_piece(p) else 0.0 for p in pieces]

    def parents(self, token: int) -> tuple[int, ...]:
        """The two tokens that a token is merged from; none for one that no merge makes."""
        if token not in self._parents:
            pair = last_merge(self.texts.get(token, ""), self._ranks)
            known = pair is not None and pair[0] in self.ids and pair[1] in self.ids
            self._parents[token] = (self.ids[pair[0]], self.ids[pair[1]]) if pair and known else ()
        return self._parents[token]

    def ancestors(self, token: int) -> set[int]:
        """The token and everything that it is merged from, step by step."""
        found, open_ = {token}, [token]
        while open_:
            for parent in self.parents(open_.pop()):
                if parent not in found:
                    found.add(parent)
                    open_.append(parent)
        return found


def load_engine(text: str) -> Tokenizer:
    """Loads a tokenizer.json without truncation or padding.

    Raises:
        TransformError: it does not load.
    """
    from tokenizers import Tokenizer

    with native_call("the tokenizer does not load", TransformError):
        engine = Tokenizer.from_str(text)
    engine.no_truncation()
    engine.no_padding()
    return engine


def last_merge(text: str, ranks: dict[tuple[str, str], int]) -> tuple[str, str] | None:
    """The last of the merges that make a text one token, None when they do not make it one.

    Args:
        text: of a token, encoded alone.
        ranks: rank by pair.
    """
    pieces: list[str] = list(text)
    after = list(range(1, len(pieces) + 1))
    before = list(range(-1, len(pieces) - 1))
    queue: list[tuple[int, int, str, str]] = []

    def offer(at: int) -> None:
        if at >= 0 and after[at] < len(pieces):
            pair = (pieces[at], pieces[after[at]])
            if pair in ranks:
                heapq.heappush(queue, (ranks[pair], at, *pair))

    for i in range(len(pieces) - 1):
        offer(i)
    last: tuple[str, str] | None = None
    left = len(pieces)
    while queue:
        _, at, first, second = heapq.heappop(queue)
        other = after[at]
        if pieces[at] != first or other >= len(pieces) or pieces[other] != second:
            continue  # one of the two has been merged since
        pieces[at], pieces[other] = first + second, ""
        after[at] = after[other]
        if after[at] < len(pieces):
            before[after[at]] = at
        last, left = (first, second), left - 1
        offer(before[at])
        offer(at)
    return last if left == 1 else None


def _kind(model: Json) -> ModelKind:
    kind = model.get("type")
    if kind is None:  # files of old versions leave it out
        kind = "BPE" if "merges" in model else "Unigram" if "unk_id" in model else None
    if kind == "Unigram":
        return "Unigram"
    if kind != "BPE":
        raise TransformError(f"the tokenizer's model is {kind!r}; only BPE and Unigram can be pruned")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise TransformError(f"the tokenizer's model has a {key}; vocabularies with one cannot be pruned")
    return "BPE"


def _merges(model: Json) -> Iterator[tuple[str, str]]:
    merges = model.get("merges")
    for entry in merges if isinstance(merges, list) else []:
        yield split_merge(entry)


def split_merge(entry: JsonValue) -> tuple[str, str]:
    """The two tokens of a merge, which newer files write as a list and older ones with a space.

    Raises:
        TransformError: it is neither.
    """
    parts: Sequence[JsonValue] = entry.split(" ") if isinstance(entry, str) else ()
    if isinstance(entry, list):
        parts = entry
    if len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], str):
        return parts[0], parts[1]
    raise TransformError(f"the tokenizer has the merge {str(entry)[:60]!r}, expected two tokens")


def _is_piece(value: JsonValue) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int | float)


def _object(value: JsonValue, key: str) -> Json:
    if not isinstance(value, dict):
        raise TransformError(f"the tokenizer has no {key}")
    return value
