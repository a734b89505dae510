"""What one source of drafts says may follow an answer, before anybody has asked whether it pays to try.

A guess is a tree like a `Draft`; each token has a *kind*: tokens of a kind have been kept equally often, and
how often that was is learned (`kept_rates`). A source knows nothing of steps and what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgesdk.decoding.draft import Chances, Draft, DraftRequest


@dataclass(frozen=True, eq=False, slots=True)
class Guess:
    """Tokens that may follow an answer.

    Attributes:
        tokens: of the tree, each after the one that it follows.
        parents: for each token the index of that one; -1 for those that follow the answer so far.
        kinds: for each token which of the source's kinds it is. Tokens that follow the same one stand in the
            order in which they are likely.
        chances: as in `Draft`.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    kinds: tuple[int, ...]
    chances: tuple[Chances, ...] | None = None

    def part(self, rows: Sequence[int]) -> Guess:
        """Some of its tokens, each with the one that it follows.

        Args:
            rows: of the tokens, ascending; with each the row that it follows.

        Example:
            >>> Guess((5, 6, 7), (-1, 0, -1), (0, 1, 2)).part([0, 2])
            Guess(tokens=(5, 7), parents=(-1, -1), kinds=(0, 2), chances=None)
        """
        places = {row: place for place, row in enumerate(rows)}
        return Guess(
            tuple(self.tokens[row] for row in rows),
            tuple(places[self.parents[row]] if self.parents[row] >= 0 else -1 for row in rows),
            tuple(self.kinds[row] for row in rows),
            None if self.chances is None else tuple(self.chances[row] for row in rows),
        )

    def draft(self) -> Draft:
        """It as a draft, to be judged."""
        return Draft(np.array(self.tokens, np.int32), np.array(self.parents, np.int32), self.chances)


class Source(Protocol):
    """Guesses what follows answers: a function of their tokens. One thread at a time uses it."""

    @property
    def name(self) -> str:
        """What it is called in receipts and figures."""

    @property
    def priors(self) -> Sequence[float]:
        """For each kind how often its tokens are kept, predecessors given, before anything is known."""

    @property
    def asks_model(self) -> bool:
        """Whether a guess costs steps of a second model; else it costs next to nothing."""

    @property
    def price_s(self) -> float:
        """Seconds that one more token ahead of all answers costs; 0 where nothing, or not known yet."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds, about."""

    def guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        """A guess for each answer, or None where it has none."""

    def forget(self, key: int) -> None:
        """An answer has ended; it may never have been asked for."""

    def close(self) -> None:
        """Releases what it holds; may be called again."""
