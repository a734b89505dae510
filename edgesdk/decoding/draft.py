"""Drafts: tokens that may follow an answer, to be judged by its next step; and what proposes them.

    drafts = drafter.propose([DraftRequest(key, tokens, most=8, deepest=8), ..])   # for all branches at once
    drafter.learn(JudgedStep(..))                                  # after the step that judged them
    drafter.forget(key)                                            # once an answer has ended

What a drafter proposes changes how fast an answer comes, never what it is: `accept` asks the request's own
choices. So a drafter knows neither samplers nor grammars nor the model's cells. This module is the seam
alone; drafters live in `edgesdk.drafts`, and `drafting` guards those who use them from what they do wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float, Int
from edgesdk.decoding.ahead import Ahead
from edgesdk.decoding.processors import Ids

_keys = itertools.count()


def new_draft_key() -> int:
    """A key for a `DraftRequest` that nobody else in this process has."""
    return next(_keys)


@dataclass(frozen=True, eq=False, slots=True)
class Chances:
    """A distribution over tokens; whatever is not among them has probability 0.

    Attributes:
        ids: (n,) int64 token ids, ascending.
        shares: (n,) float64 their probabilities, which sum to 1.
    """

    ids: Ids
    shares: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuses what is no distribution.

        Raises:
            ValueError: ids do not ascend, or shares are not as many, negative, or do not sum to 1.
        """
        if self.ids.ndim != 1 or self.ids.shape != self.shares.shape or not len(self.ids):
            raise ValueError(f"{self.ids.shape} ids have {self.shares.shape} shares, expected (n,) of each")
        if not bool((self.ids[1:] > self.ids[:-1]).all()):
            raise ValueError("the ids of a distribution do not ascend")
        if not (self.shares >= 0).all() or not abs(float(self.shares.sum()) - 1) < 1e-6:
            raise ValueError(f"shares sum to {float(self.shares.sum())}, expected numbers that sum to 1")

    def share(self, token: int) -> float:
        """The probability of a token."""
        at = int(np.searchsorted(self.ids, token))
        return float(self.shares[at]) if at < len(self.ids) and self.ids[at] == token else 0.0


class DraftSampling(Protocol):
    """How a request samples, for drafters that draw what they propose from a distribution of their own.

    A draft is kept the more often, the nearer its distribution is to the request's; so both are shaped by the
    same rules. The random numbers are others than those of the answer.
    """

    def shape(self, logits: Float, drafted: Sequence[int]) -> Chances:
        """The distribution that the request's penalties, temperature and filters make of logits.

        Args:
            logits: (V,) float32 after the drafted tokens; left as they are.
            drafted: tokens after those of the request.
        """

    def draw(self, chances: Chances) -> int:
        """Draws a token."""


class DraftGrammar(Protocol):
    """Where an answer stands in its grammar; goes on in thought, and leaves the answer as it is.

    All raise UnsupportedOption where the grammar cannot go on.
    """

    def next_text(self) -> bytes:
        """How the answer must go on, though not by which tokens; empty where it is free, or complete."""

    def spell(self, text: bytes) -> int | None:
        """The token that a text usually begins with; None where the model has none."""

    def take(self, token: int) -> tuple[int, ...] | None:
        """Goes on with a token and all that it forces; returns the latter, None if the token may not come."""


@dataclass(frozen=True, eq=False, slots=True)
class DraftRequest:
    """One answer that asks for a draft.

    Attributes:
        key: the same for an answer in every step, unlike any other's; `new_draft_key` gives one.
        tokens: (n,) int32, all tokens so far, prompt and answer; the last has been chosen and not been run.
            A view, valid during the call.
        most: most tokens to propose, in all branches of a tree together; at least 1.
        deepest: most tokens to propose one after the other; at least 1.
        prompt: how many of `tokens` are the prompt's.
        sampling: how the request samples; None where it takes the likeliest token.
        state: (E,) float32, what the model's head read in the row whose logits chose the first of the
            `pending` last tokens; None where that is not known.
        grammar: gives a state of its own after all of `tokens`, or None where the answer may not go on; None
            where it follows no grammar.
        pending: how many of `tokens` the next step runs whatever is drafted: one, and what a grammar forces.
        ahead: what the streams say that stood behind the token before the `pending` last ones: the first of
            them the token after the first of these; None where there were none.
    """

    key: int
    tokens: Int
    most: int
    deepest: int
    prompt: int = 0
    sampling: DraftSampling | None = None
    state: Float | None = None
    grammar: Callable[[], DraftGrammar | None] | None = None
    pending: int = 1
    ahead: Ahead | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Draft:
    """Tokens that may come next: a chain, or a tree with several continuations.

    Attributes:
        tokens: (n,) int32, n at least 1.
        parents: (n,) int32, for each token the index of the one that it follows, which comes before it; -1
            for those that follow what there is. Tokens that follow the same one differ.
        chances: for drafts that were drawn, what each token was drawn from: those that follow the same one
            have the same distribution, and were drawn one after the other, without those drawn before. None
            for *point drafts*, which are guesses however they came about.
        streams: (n,) int32, for a row that is no token but the stream j of a model that has streams: j. It
            stands behind stream j - 1, and the first behind the token that it belongs to; no token follows
            it, and whatever `tokens` has in its place is not read. 0 for tokens; None where all are.
    """

    tokens: Int
    parents: Int
    chances: tuple[Chances, ...] | None = None
    streams: Int | None = None

    def __post_init__(self) -> None:
        """Refuses what is no tree.

        Raises:
            ValueError: it has no tokens, parents or chances are not as many, a parent does not come before
                its children, two of its children are the same token, or streams do not stand in order.
        """
        count = len(self.tokens)
        if not count or self.tokens.shape != (count,) or self.parents.shape != (count,):
            raise ValueError(f"a draft has {self.tokens.shape} tokens and {self.parents.shape} parents")
        if self.tokens.dtype != np.int32 or self.parents.dtype != np.int32:
            raise ValueError(f"a draft's arrays are {self.tokens.dtype} and {self.parents.dtype}, not int32")
        if self.chances is not None and len(self.chances) != count:
            raise ValueError(f"{count} drafted tokens have {len(self.chances)} distributions")
        numbers = [0] * count if self.streams is None else self._check_streams(self.streams)
        seen: set[tuple[int, int]] = set()
        for row, (token, parent) in enumerate(zip(self.tokens.tolist(), self.parents.tolist(), strict=True)):
            if not -1 <= parent < row:
                raise ValueError(f"draft {row} follows draft {parent}, expected one before it or -1")
            behind, number = numbers[parent] if parent >= 0 else 0, numbers[row]
            if (number != behind + 1) if number else behind:
                raise ValueError(f"row {row} of a draft is stream {number} and follows stream {behind}")
            if number:
                token = -1
            if (parent, token) in seen:
                raise ValueError(f"token {token} is drafted twice after draft {parent}")
            seen.add((parent, token))

    def _check_streams(self, streams: Int) -> list[int]:
        if streams.shape != self.tokens.shape or streams.dtype != np.int32:
            raise ValueError(f"a draft of {len(self.tokens)} rows has {streams.shape} numbers of streams")
        if self.chances is not None:
            raise ValueError("a draft that was drawn has streams in it")
        return [int(number) for number in streams]

    @property
    def guesses(self) -> int:
        """How many of its rows are tokens."""
        return len(self.tokens) if self.streams is None else int((self.streams == 0).sum())

    @classmethod
    def chain(cls, tokens: Sequence[int] | Int, chances: tuple[Chances, ...] | None = None) -> Draft:
        """A draft of tokens one after the other."""
        count = len(tokens)
        return cls(np.array(tokens, np.int32), np.arange(-1, count - 1, dtype=np.int32), chances)

    @property
    def is_chain(self) -> bool:
        """Whether each token follows the one before it."""
        return bool((self.parents == np.arange(-1, len(self.parents) - 1)).all())

    def paths(self) -> list[list[int]]:
        """The tokens from the first to each, in its place."""
        paths: list[list[int]] = []
        for token, parent in zip(self.tokens.tolist(), self.parents.tolist(), strict=True):
            paths.append([*(paths[parent] if parent >= 0 else ()), token])
        return paths

    def pick(self, keeps: Sequence[bool]) -> Draft | None:
        """The tokens that are to stay and follow others that do; None if there are none."""
        rows: dict[int, int] = {-1: -1}
        for row, (parent, stays) in enumerate(zip(self.parents.tolist(), keeps, strict=True)):
            if stays and parent in rows:
                rows[row] = len(rows) - 1
        kept = [row for row in rows if row >= 0]
        if not kept:
            return None
        parents = np.array([rows[parent] for parent in self.parents[kept].tolist()], np.int32)
        chances = None if self.chances is None else tuple(self.chances[row] for row in kept)
        streams = None if self.streams is None else self.streams[kept]
        return Draft(self.tokens[kept], parents, chances, streams)

    def cut(self, most: int) -> Draft | None:
        """The first `most` tokens, among which is what they follow; None if there are none."""
        if most >= len(self.tokens):
            return self
        if most < 1:
            return None
        chances = None if self.chances is None else self.chances[:most]
        streams = None if self.streams is None else self.streams[:most]
        return Draft(self.tokens[:most], self.parents[:most], chances, streams)

    def depths(self) -> Int:
        """How many tokens of the draft come before each: (n,) int32."""
        depths = np.zeros(len(self.parents), np.int32)
        for row, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                depths[row] = depths[parent] + 1
        return depths


@dataclass(frozen=True, slots=True)
class JudgedDraft:
    """What became of a draft.

    Attributes:
        key: of the answer.
        drafted: its tokens.
        kept: those that the answer has.
        streams: rows of streams that the step ran beside them.
    """

    key: int
    drafted: int
    kept: int
    streams: int = 0


def judge_draft(key: int, draft: Draft, kept: int) -> JudgedDraft:
    """What became of a draft of which an answer has so many tokens."""
    return JudgedDraft(key, draft.guesses, kept, len(draft.tokens) - draft.guesses)


@dataclass(frozen=True, slots=True)
class JudgedStep:
    """A step of the model and its drafts, for drafters that learn what pays.

    Attributes:
        decoded: answers that went on in it, with and without draft.
        prefilled: tokens of prompts that it ran beside them.
        model_s: seconds that it took.
        drafts: those that it judged.
        forced: tokens that it ran for these answers beyond one of each.
    """

    decoded: int
    prefilled: int
    model_s: float
    drafts: tuple[JudgedDraft, ...]
    forced: int = 0


class Drafter(Protocol):
    """Proposes tokens. One thread at a time uses it.

    What it proposes is a function of the tokens and of what `learn` told it; what it keeps between calls is
    only a cache, found by the request's key.
    """

    @property
    def name(self) -> str:
        """What it is called in receipts and figures."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds, about."""

    def propose(self, asked: Sequence[DraftRequest]) -> list[Draft | None]:
        """A draft for each of some answers, or None where it has nothing to propose.

        Args:
            asked: answers that the next step goes on with, at least one.
        """

    def learn(self, step: JudgedStep) -> None:
        """Hears of a step in which answers went on, also of those without drafts."""

    def forget(self, key: int) -> None:
        """An answer has ended; it may never have been asked for."""

    def close(self) -> None:
        """Releases what it holds; may be called again."""


@runtime_checkable
class Waits(Protocol):
    """What a `Drafter`, or a source of one, has besides where it shares a backend with others."""

    @property
    def waited_s(self) -> float:
        """Seconds that it has waited for its turns so far, for which nobody loses patience with it."""
