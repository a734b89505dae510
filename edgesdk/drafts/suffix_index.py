"""Finds where the end of a text stood before: the longest matches of its last tokens among tokens seen
earlier.

Hash chains, as compressors find matches (RFC 1951, section 4): for every n-gram of two lengths the place
where it ended last, and for every place the one before it. What a chain gives is compared with the text
itself, so a collision of hashes costs a comparison and nothing else. Adding a token takes constant time and
about 250 bytes. It knows neither answers nor drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

import numpy as np

from edgesdk.backends.protocol import Int

BORDER = -1
"""Stands between texts: no token equals it, so no match and no continuation crosses it."""

LONGEST_MATCH = 32
"""Tokens that are compared: longer matches are not told apart."""

SHORTEST_MATCH = 2

_GRAMS = (6, SHORTEST_MATCH)
"""Long ones too: where a short n-gram is frequent, its chain is cut before it reaches a rare long match."""

_CHAIN = 16
"""Places of a chain that are looked at, newest first."""

_FIRST_ROOM = 256
_FEW = 8
_MASK = (1 << 64) - 1
_FACTORS = tuple(0x9E3779B97F4A7C15 * (2 * i + 1) & _MASK | 1 for i in range(max(_GRAMS)))


@dataclass(frozen=True, slots=True)
class Match:
    """A place where the end of a text stood before.

    Attributes:
        place: of the token that followed there.
        length: how many tokens before it equal the last ones of the text, `LONGEST_MATCH` at most.
    """

    place: int
    length: int


class SuffixIndex:
    """Tokens in order, searchable by what precedes a place."""

    def __init__(self, most: int | None = None) -> None:
        """Starts empty.

        Args:
            most: tokens that are kept, about; of more the older half is forgotten. None for all.
        """
        self._most = most
        self._count = 0
        self._tokens: Int = np.empty(0, np.int32)
        self._before: list[Int] = []
        self._last: list[dict[int, int]] = []
        self._clear(_FIRST_ROOM)

    def __len__(self) -> int:
        """Tokens that it holds."""
        return self._count

    @property
    def tokens(self) -> Int:
        """(n,) int32, a view."""
        return self._tokens[: self._count]

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        arrays = self._tokens.nbytes + sum(before.nbytes for before in self._before)
        # A key and a place are integers of 32 bytes, and an entry of a dictionary takes about 100.
        return arrays + 164 * sum(map(len, self._last))

    def add(self, tokens: Int) -> None:
        """Adds tokens after those that it holds.

        Args:
            tokens: (n,) int32; `BORDER` where a text ends.
        """
        if self._most is not None:
            tokens = tokens[-self._most :]
            if self._count + len(tokens) > self._most:
                room = min(self._most // 2, self._most - len(tokens))
                kept = self.tokens[self._count - min(room, self._count) :].copy()
                self._clear(len(kept))
                self._append(kept)
        self._append(tokens)

    def find(self, text: Int, most: int) -> list[Match]:
        """Where the last tokens of a text stood before, longest matches first, of equal ones the newest.

        Args:
            text: (n,) int32; where it is what the index itself ends with, its own end is no match.
            most: matches to return.
        """
        window = text[-LONGEST_MATCH:]
        ends: list[int] = window[-max(_GRAMS) :].tolist()
        places: dict[int, None] = {}
        for last, before, count in zip(self._last, self._before, _GRAMS, strict=True):
            if len(window) < count:
                continue
            place = last.get(_hash(ends[len(ends) - count :]), -1)
            for _ in range(_CHAIN):
                if place < 0:
                    break
                if place < self._count:
                    places[place] = None
                place = int(before[place])
        found = [
            Match(place, length)
            for place, length in zip(places, self._lengths(window, list(places)), strict=True)
            if length >= SHORTEST_MATCH
        ]
        found.sort(key=lambda match: (-match.length, -match.place))
        return found[:most]

    def _lengths(self, window: Int, places: list[int]) -> list[int]:
        """How many tokens before each place equal the last ones of a window."""
        if not places:
            return []
        back = np.arange(1, len(window) + 1)
        at = np.array(places)[:, None] - back
        same = (at >= 0) & (self._tokens[np.maximum(at, 0)] == window[::-1])
        # `argmin` finds the first difference; without one, all are equal.
        lengths = np.where(same.all(axis=1), len(window), same.argmin(axis=1))
        return [int(length) for length in lengths]

    def _append(self, tokens: Int) -> None:
        start, total = self._count, self._count + len(tokens)
        if total + 1 > len(self._tokens):
            self._reserve(max(total + 1, 2 * len(self._tokens)))
        self._tokens[start:total] = tokens
        self._count = total
        for last, before, count in zip(self._last, self._before, _GRAMS, strict=True):
            first = max(start - count + 1, 0)
            if total - first < count:
                continue
            # A gram is found by the place after it, where its continuation stands.
            keys = _hashes(self._tokens[first:total], count)
            for place, key in enumerate(keys, start=first + count):
                before[place] = last.get(key, -1)
                last[key] = place

    def _clear(self, room: int) -> None:
        self._count = 0
        self._tokens = np.empty(room, np.int32)
        self._before = [np.full(room, -1, np.int32) for _ in _GRAMS]
        self._last = [{} for _ in _GRAMS]

    def _reserve(self, room: int) -> None:
        tokens = np.empty(room, np.int32)
        tokens[: self._count] = self._tokens[: self._count]
        self._tokens = tokens
        for index, before in enumerate(self._before):
            longer = np.full(room, -1, np.int32)
            longer[: len(before)] = before
            self._before[index] = longer


def _hashes(tokens: Int, count: int) -> list[int]:
    """A hash of every n-gram: n - count + 1 of them."""
    total = len(tokens) - count + 1
    if total <= _FEW:
        few: list[int] = tokens.tolist()
        return [_hash(few[first : first + count]) for first in range(total)]
    values = tokens.astype(np.int64).astype(np.uint64)
    hashes = np.zeros(total, np.uint64)
    for factor, offset in zip(_FACTORS, range(count), strict=False):
        hashes += values[offset : offset + total] * np.uint64(factor)
    found: list[int] = hashes.tolist()
    return found


def _hash(tokens: Sequence[int]) -> int:
    """The hash of one n-gram, which for a few takes less time than arrays do."""
    found: int = sum(map(mul, tokens, _FACTORS)) & _MASK
    return found
