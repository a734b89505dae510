"""How often guesses are right, learned from what answers became.

Every guess is compared with the tokens that came, also of those that no step has judged: a guess is right or
wrong whether or not anybody tried. So a source whose guesses cost nothing is known to pay again without ever
being tried, and what is tried does not colour what is known.

Counts fade, so that what holds now counts. An answer has counts of its own, which are believed the more the
more there are: one answer copies its prompt while another beside it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.backends.protocol import Int
from edgesdk.drafts.guess import Guess

_PRIOR_WEIGHT = 4.0
_SHARED_WEIGHT = 4.0
_FADE = 0.98
"""What a count of all answers keeps with each new one of its kind: about the last 50 count."""
_OWN_FADE = 0.9
"""The same of one answer: about the last 10."""


@dataclass(slots=True)
class _Pending:
    """A guess that is not known to be right or wrong as a whole.

    Attributes:
        guess: of an answer.
        seen: tokens that the answer had when the guess was compared last.
        at: the token of the guess that was the last one right; -1 for none yet.
    """

    guess: Guess
    seen: int
    at: int = -1


class KeptRates:
    """Rates of one source, by the kinds of its tokens, for all answers and for each."""

    def __init__(self, priors: Sequence[float]) -> None:
        """Starts with what the source expects."""
        self._priors = tuple(priors)
        self._kept = [0.0] * len(priors)
        self._seen = [0.0] * len(priors)
        self._all = [0.0, 0.0]
        self._own: dict[int, dict[int, tuple[float, float]]] = {}
        self._pending: dict[int, _Pending] = {}

    def compare(self, key: int, tokens: Int) -> None:
        """Compares what was guessed for an answer with what it became.

        Args:
            key: of the answer.
            tokens: (n,) int32, all of it so far, prompt included.
        """
        pending = self._pending.get(key)
        if pending is None:
            return
        guess = pending.guess
        for token in tokens[pending.seen :].tolist():
            at = self._step(key, guess, pending.at, token)
            if at is None:
                del self._pending[key]
                return
            pending.at = at
        pending.seen = len(tokens)

    def expect(self, key: int, guess: Guess, length: int) -> None:
        """Notes a guess to be compared later, unless an earlier one for the answer is still open.

        Args:
            key: of the answer.
            guess: what may follow.
            length: tokens that the answer has so far, prompt included.
        """
        if key not in self._pending:
            self._pending[key] = _Pending(guess, length)

    @property
    def overall(self) -> float:
        """How often a place has one of the tokens guessed for it, where the places before have."""
        prior = sum(self._priors) / len(self._priors)
        return (self._all[0] + _PRIOR_WEIGHT * prior) / (self._all[1] + _PRIOR_WEIGHT)

    def rate(self, key: int, kind: int) -> float:
        """How often a token of a kind is kept in an answer, where its predecessors are."""
        shared = (self._kept[kind] + _PRIOR_WEIGHT * self._priors[kind]) / (self._seen[kind] + _PRIOR_WEIGHT)
        kept, seen = self._own.get(key, {}).get(kind, (0.0, 0.0))
        return (kept + _SHARED_WEIGHT * shared) / (seen + _SHARED_WEIGHT)

    def reach(self, key: int, guess: Guess) -> list[float]:
        """For each token of a guess the chance that it is kept, predecessors included."""
        chances: list[float] = []
        left: dict[int, float] = {}  # by parent: the chance that none of its children so far is right
        for parent, kind in zip(guess.parents, guess.kinds, strict=True):
            before = left.get(parent, chances[parent] if parent >= 0 else 1.0)
            chance = before * self.rate(key, kind)
            chances.append(chance)
            left[parent] = before - chance
        return chances

    def forget(self, key: int) -> None:
        """Drops what is known of one answer."""
        self._own.pop(key, None)
        self._pending.pop(key, None)

    def _step(self, key: int, guess: Guess, at: int, token: int) -> int | None:
        """Counts the children of one token of a guess; the one that is right, None where the guess ends."""
        found = -1
        for row, parent in enumerate(guess.parents):
            if parent != at:
                continue
            right = guess.tokens[row] == token
            self._count(key, guess.kinds[row], right)
            if right:
                found = row
                break
        self._all = [self._all[0] * _FADE + (found >= 0), self._all[1] * _FADE + 1]
        return found if found in guess.parents and found >= 0 else None

    def _count(self, key: int, kind: int, right: bool) -> None:
        self._kept[kind] = self._kept[kind] * _FADE + right
        self._seen[kind] = self._seen[kind] * _FADE + 1
        own = self._own.setdefault(key, {})
        kept, seen = own.get(kind, (0.0, 0.0))
        own[kind] = kept * _OWN_FADE + right, seen * _OWN_FADE + 1
