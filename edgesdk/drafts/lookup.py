"""Guesses by looking up: what followed the last tokens of an answer where they stood before.

It looks in the prompt and the answer so far, in texts that the caller gives, and in answers that have ended.
The place with the longest match comes first; others that go on differently become branches beside it, so that
a guess is a chain where all agree and a tree where they do not. A text that repeats itself is continued by
its own repetition. No model is asked, so a guess costs tens of microseconds.

Saxena: Prompt lookup decoding (2023); Yang et al.: Inference with Reference (arXiv 2304.04487). The trie of
several places is that of Luo et al.: Turning Trash into Treasure (2408.08696) in the small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.decoding.draft import DraftRequest
from edgesdk.drafts.guess import Guess
from edgesdk.drafts.suffix_index import BORDER, LONGEST_MATCH, SHORTEST_MATCH, Match, SuffixIndex

_LEAST_LENGTHS = (2, 3, 4, 6, 9, 16)
"""Matches from one of these to the next are of a kind: the longer, the likelier they go on alike."""

_PRIORS = (0.25, 0.4, 0.5, 0.65, 0.8, 0.9)
_RANKS = 3
"""Branches at one place; each has kinds of its own, since it counts only where those before it were wrong."""

_BESIDE = 0.3
"""What the second place has of the chance of the first, before anything is known."""

_REMEMBERED_TOKENS = 16_384
_GIVEN_TOKENS = 262_144

_KIND_OF = np.searchsorted(_LEAST_LENGTHS, np.arange(LONGEST_MATCH * 2 + 1), "right") - 1


class _Tree:
    """A guess in the making: paths that share their beginnings."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.kinds: list[int] = []
        self._children: dict[int, list[int]] = {}

    @property
    def full(self) -> bool:
        """Whether it has as many tokens as it may."""
        return len(self.tokens) >= self._most

    def add(self, path: Sequence[int], length: int, first_kind: int) -> None:
        """Adds a continuation of a match of so many tokens, as far as there is room."""
        at = -1
        for depth, token in enumerate(path):
            children = self._children.setdefault(at, [])
            same = next((row for row in children if self.tokens[row] == token), None)
            if same is None:
                if self.full or len(children) >= _RANKS:
                    return
                # With every token that is kept, the match is one longer.
                bucket = int(_KIND_OF[min(length + depth, len(_KIND_OF) - 1)])
                same = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(at)
                self.kinds.append(first_kind + len(children) * len(_PRIORS) + bucket)
                children.append(same)
            at = same

    def guess(self) -> Guess:
        """What there is."""
        return Guess(tuple(self.tokens), tuple(self.parents), tuple(self.kinds))


class Lookup:
    """Implements `Source` over indices of what was seen."""

    def __init__(
        self, texts: Iterable[Int] = (), *, remember: bool = True, branches: int = 2, shortest: int = 2
    ) -> None:
        """Indexes texts.

        Args:
            texts: (n,) int32 token ids each, in which answers are looked up as well; of more than 262,144
                tokens the last are kept.
            remember: look up in answers that have ended, too: the last 16,384 tokens of them.
            branches: most continuations of a guess, 1 for chains only.
            shortest: least tokens that must match, at least 2.
        """
        self._branches = branches
        self._shortest = max(shortest, SHORTEST_MATCH)
        self._own: dict[int, SuffixIndex] = {}
        self._prompts: dict[int, int] = {}
        self._remembered = SuffixIndex(_REMEMBERED_TOKENS) if remember else None
        self._given = SuffixIndex(_GIVEN_TOKENS)
        for text in texts:
            self._given.add(np.append(np.asarray(text, np.int32), np.int32(BORDER)))

    @property
    def name(self) -> str:
        """What it is called."""
        return "lookup"

    @property
    def priors(self) -> Sequence[float]:
        """Kinds: in the text itself, then elsewhere; by rank; by the length of the match."""
        return [share * _BESIDE**rank for _ in range(2) for rank in range(_RANKS) for share in _PRIORS]

    @property
    def asks_model(self) -> bool:
        """It looks things up."""
        return False

    @property
    def price_s(self) -> float:
        """Nothing to speak of."""
        return 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of the indices, about."""
        shared = () if self._remembered is None else (self._remembered,)
        return sum(index.nbytes for index in (self._given, *shared, *self._own.values()))

    def guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        """A guess for each answer, or None where nothing matches."""
        return [self._guess(request) for request in asked]

    def forget(self, key: int) -> None:
        """Drops the index of an answer, and remembers the answer."""
        own = self._own.pop(key, None)
        prompt = self._prompts.pop(key, 0)
        if own is None or self._remembered is None or len(own) <= prompt:
            return
        # From a little before the answer, so that its first tokens have something that they follow.
        self._remembered.add(np.append(own.tokens[max(prompt - SHORTEST_MATCH, 0) :], np.int32(BORDER)))

    def close(self) -> None:
        """Forgets everything."""
        self._own.clear()
        self._prompts.clear()
        self._given = SuffixIndex()
        if self._remembered is not None:
            self._remembered = SuffixIndex(_REMEMBERED_TOKENS)

    def _guess(self, request: DraftRequest) -> Guess | None:
        own, tokens = self._index(request), request.tokens
        found = [(match, own, 0) for match in own.find(tokens, self._branches)]
        elsewhere = _RANKS * len(_PRIORS)
        for index in (self._remembered, self._given):
            if index is not None and len(index):
                found += [(match, index, elsewhere) for match in index.find(tokens, self._branches)]
        found = [place for place in found if place[0].length >= self._shortest]
        # Stable: of equal matches those in the text itself come first, then the newest.
        found.sort(key=lambda place: -place[0].length)
        tree = _Tree(request.most)
        for match, index, first_kind in found[: self._branches]:
            if tree.full:
                break
            tree.add(_continuation(index, match, request.deepest, index is own), match.length, first_kind)
        return tree.guess() if tree.tokens else None

    def _index(self, request: DraftRequest) -> SuffixIndex:
        own = self._own.get(request.key)
        if own is None or len(own) > len(request.tokens):
            own = self._own[request.key] = SuffixIndex()
        self._prompts[request.key] = request.prompt
        own.add(request.tokens[len(own) :])
        return own


def _continuation(index: SuffixIndex, match: Match, most: int, repeats: bool) -> list[int]:
    """What followed at a place; `repeats` where the text would go on with what it has just written."""
    path: list[int] = index.tokens[match.place : match.place + most].tolist()
    if BORDER in path:
        return path[: path.index(BORDER)]
    if repeats and path:
        period = len(path)
        path += [path[i % period] for i in range(period, most)]
    return path
