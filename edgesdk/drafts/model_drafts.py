"""Guesses of a second model: a shallow stack of the same file, or a smaller bundle.

It follows every answer with cells of its own, which are only a cache: what it guesses is a function of the
tokens. Cells of drafts that were kept are right already; those of others are given back when the answer comes
again. All answers are advanced together, a step for each token ahead, and a long prompt in pieces, one with
each call, so that nobody waits for the whole of it.

It takes the likeliest token each time (a point draft): sampled answers stay those of their seed.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Float, Int
from edgesdk.decoding.draft import DraftRequest
from edgesdk.drafts.guess import Guess
from edgesdk.drafts.token_bridge import TokenBridge
from edgesdk.errors import CapacityError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_runner import StepEntry, StepRunner

_LEAST_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Tokens to which the second model gives at least so much are of a kind."""

_PRIORS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
_LEAST_REACH = 0.1
"""A chain that is less likely to be right so far, by the second model's own word, goes no further."""

_PRICE_SHARE = 0.1


@dataclass(eq=False)
class _Follower:
    """One answer as the second model knows it."""

    cells: CellList
    tokens: Int


class ModelDrafts:
    """Implements `Source` with the steps of a second model."""

    def __init__(
        self,
        name: str,
        runner: StepRunner,
        close: Callable[[], None],
        *,
        bridge: TokenBridge | None = None,
        piece: int = 128,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Takes over a runner.

        Args:
            name: what it is called in receipts.
            runner: runs the second model; nobody else uses it.
            close: releases the second model.
            bridge: between its tokens and the answer's; None where they are the same.
            piece: most tokens of a prompt that one call runs.
            clock: tells seconds.
        """
        self._name = name
        self._runner = runner
        self._release = close
        self._bridge = bridge
        self._most = runner.token_budgets[-1]
        self._piece = min(piece, self._most)
        self._clock = clock
        self._price_s = 0.0
        self._followers: dict[int, _Follower] = {}  # least recently asked first
        self._closed = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def priors(self) -> Sequence[float]:
        """By the share that the second model gives to its token."""
        return _PRIORS

    @property
    def asks_model(self) -> bool:
        """It does."""
        return True

    @property
    def price_s(self) -> float:
        """Seconds of a step of the second model, as they have been lately."""
        return self._price_s

    @property
    def nbytes(self) -> int:
        """Bytes of its cells."""
        return self._runner.pool.nbytes

    def guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        """A chain for each answer; None while its prompt is not read, or where there is no room for it.

        Raises:
            DeviceError: the second model failed.
        """
        keys = {request.key for request in asked}
        ready = [place for place, request in enumerate(asked) if self._read(request, keys)]
        running = ready[: self._most]  # each needs a row in every step
        pieces = {place: self._left(asked[place]) for place in running}
        chains: list[list[tuple[int, int]]] = [[] for _ in asked]
        reach = [1.0] * len(asked)
        ahead = 0
        while running:
            found = self._step(
                [asked[place].key for place in running], [pieces[place] for place in running], ahead > 0
            )
            if found is None:  # there is no room for all of them
                self.forget(asked[running.pop()].key)
                continue
            ahead += 1
            after = []
            for place, (token, share) in zip(running, found, strict=True):
                request, mine = asked[place], self._back(token)
                if mine < 0:
                    continue
                chains[place].append((mine, bisect_right(_LEAST_SHARES, share) - 1))
                reach[place] *= share
                pieces[place] = np.array([token], np.int32)
                if ahead < min(request.most, request.deepest) and reach[place] >= _LEAST_REACH:
                    after.append(place)
            running = after
        return [_as_guess(chain) for chain in chains]

    def forget(self, key: int) -> None:
        """Gives the cells of an answer back."""
        follower = self._followers.pop(key, None)
        if follower is not None:
            follower.cells.close()

    def close(self) -> None:
        """Releases the second model and its cells; may be called again."""
        if self._closed:
            return
        self._closed = True
        for key in list(self._followers):
            self.forget(key)
        self._runner.close()
        self._release()

    def _read(self, request: DraftRequest, keys: set[int]) -> bool:
        """Has the second model follow an answer to its last tokens; whether it is there.

        Args:
            request: of the answer.
            keys: of those that keep their cells.
        """
        tokens = request.tokens if self._bridge is None else self._bridge.across(request.tokens)
        if len(tokens) + min(request.most, request.deepest) > self._runner.context:
            self.forget(request.key)
            return False
        follower = self._followers.pop(request.key, None)
        if follower is None:
            follower = _Follower(self._runner.new_list(), tokens)
        self._followers[request.key] = follower  # as the last one asked for
        follower.tokens = tokens.copy()
        known = follower.cells.tokens
        same = min(len(known), len(tokens) - 1)
        other = np.flatnonzero(known[:same] != tokens[:same])
        follower.cells.truncate(int(other[0]) if len(other) else same)
        left = self._left(request)
        if len(left) > self._piece:
            self._run([StepEntry(follower.cells, left[: self._piece], "none")], keys)
            left = self._left(request)
        return len(left) <= self._piece

    def _left(self, request: DraftRequest) -> Int:
        """Tokens of an answer that the second model has not run."""
        follower = self._followers[request.key]
        return follower.tokens[follower.cells.length :]

    def _back(self, token: int) -> int:
        """The answer's model's id of a token; -1 for what it does not have."""
        return token if self._bridge is None else self._bridge.back(token)

    def _step(
        self, keys: Sequence[int], pieces: Sequence[Int], steady: bool
    ) -> list[tuple[int, float]] | None:
        """Runs a piece of each answer; the likeliest token after each with its share, None without room."""
        found: list[tuple[int, float]] = []
        group: list[StepEntry] = []
        size = 0
        began = self._clock()
        for key, piece in zip(keys, pieces, strict=True):
            if group and size + len(piece) > self._most:
                if not self._take(group, found, set(keys)):
                    return None
                group, size = [], 0
            group.append(StepEntry(self._followers[key].cells, piece, "last"))
            size += len(piece)
        if not self._take(group, found, set(keys)):
            return None
        if steady:
            seconds = self._clock() - began
            known = self._price_s or seconds
            self._price_s = known + _PRICE_SHARE * (seconds - known)
        return found

    def _take(self, group: list[StepEntry], found: list[tuple[int, float]], keys: set[int]) -> bool:
        rows = self._run(group, keys)
        if rows is None:
            return False
        for row in rows:
            if row is not None:
                found.append(_likeliest(row))
        return True

    def _run(self, entries: list[StepEntry], keys: set[int]) -> list[Float | None] | None:
        """Runs a step; where cells are short, answers that nobody asks for give theirs up, oldest first."""
        while True:
            try:
                return self._runner.run(entries)
            except CapacityError:
                other = next((key for key in self._followers if key not in keys), None)
                if other is None:
                    return None
                self.forget(other)


def _as_guess(chain: Sequence[tuple[int, int]]) -> Guess | None:
    """Tokens and kinds one after the other as a guess."""
    if not chain:
        return None
    tokens, kinds = zip(*chain, strict=True)
    return Guess(tokens, tuple(range(-1, len(chain) - 1)), kinds)


def _likeliest(logits: Float) -> tuple[int, float]:
    """The likeliest token, and its share."""
    token = int(logits.argmax())
    return token, float(1.0 / np.exp(logits - logits[token]).sum())
