"""Guesses of a trained draft in the file of the model that runs: it goes on from what the model's head read.

It has no cells and reads no prompt, so it follows an answer wherever that goes: after a fork, out of a
prefix, on a backend that took over. From the state of the row that chose an answer's first token without
cells it takes those tokens in, then its own guesses, one after the other, all answers in one run for each.

It guesses the likeliest token at each place, and goes on from it; beside it stands the second one, which
costs the draft nothing more. These are point drafts: sampled answers stay those of their seed.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgesdk.backends.protocol import NO_CELLS, Float, Int, StepBackend
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.stack_record import DRAFT, NEXT_STATE, STATE
from edgesdk.decoding.draft import DraftRequest
from edgesdk.drafts.guess import Guess

_LEAST_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.92)
"""Tokens to which the draft gives at least so much are of a kind: the likeliest of all that it has, the
second of what the likeliest leaves. Either has kinds of its own."""

_PRIORS = (0.1, 0.2, 0.3, 0.45, 0.55, 0.65, 0.78, 0.9)
_SECOND_PRIORS = (0.05, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_LEAST_REACH = 0.1
"""A chain that is less likely to be right so far, by the draft's own word, goes no further."""

_MOST_PENDING = 32
"""Tokens without cells that it takes in at most; more are a prompt's, and the next step gives a state."""

_PRICE_SHARE = 0.1
_PRICE_FALLS = 0.5
_MOST_CHANGE = 3.0
"""What holds a run up only adds, and nothing is run that seems dear: so its price falls faster than it rises,
and no run counts for more than so many times of it."""


@dataclass(eq=False)
class _Chain:
    """A guess in the making.

    Attributes:
        place: of the request.
        state: (E,) before `tokens`.
        tokens: to be taken in, at least one.
        guessed: the tree so far: tokens, parents, kinds.
        last: row of the tree that it goes on from; -1 before the first.
        depth: tokens one after the other so far.
        reach: how likely they are all right, by the draft's own word.
    """

    place: int
    state: Float
    tokens: list[int]
    guessed: list[tuple[int, int, int]] = field(default_factory=list)
    last: int = -1
    depth: int = 0
    reach: float = 1.0

    def add(self, first: tuple[int, float], second: tuple[int, float] | None) -> None:
        """Adds the likeliest token with its share, from which it goes on, and the second beside it."""
        token, share = first
        row = len(self.guessed)
        self.guessed.append((token, self.last, _kind_of(share)))
        if second is not None:
            # Of a token that is all but certain, nothing may be left for the second.
            left = max(1.0 - share, second[1])
            kind = _kind_of(second[1] / left if left else 0.0) + len(_PRIORS)
            self.guessed.append((second[0], self.last, kind))
        self.last, self.depth, self.reach = row, self.depth + 1, self.reach * share
        self.tokens.append(token)


class RecurrentDrafts:
    """Implements `Source` with the stack of a trained draft."""

    def __init__(
        self,
        name: str,
        backend: StepBackend,
        ids: Int,
        *,
        depth: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Uses the backend of the model that it drafts for.

        Args:
            name: what it is called in receipts.
            backend: with the stack; stays open when this is closed.
            ids: (V',) int32 the model's token of each of the draft's.
            depth: most tokens ahead.
            clock: tells seconds.
        """
        self._name = name
        self._backend = backend
        self._turns = turns_of(backend)
        self._ids = ids
        self._depth = depth
        self._clock = clock
        self._price_s = 0.0
        self._opened = False
        """Whether it ran: the first run opens its stack (17 to 56 ms), and is no price."""
        self._waited_s = 0.0
        self._shapes = sorted(shape for shape in backend.shapes if shape.stack == DRAFT)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def ids(self) -> Int:
        """(V',) int32 the model's token of each of the draft's."""
        return self._ids

    @property
    def priors(self) -> Sequence[float]:
        """By the share that the draft gives to its token, first that of the likeliest, then of the second."""
        return (*_PRIORS, *_SECOND_PRIORS)

    @property
    def asks_model(self) -> bool:
        """It does."""
        return True

    @property
    def price_s(self) -> float:
        """Seconds of a run for all answers, as they have been lately."""
        return self._price_s

    @property
    def waited_s(self) -> float:
        """Seconds that it has waited for steps of others on its model's backend."""
        return self._waited_s

    @property
    def nbytes(self) -> int:
        """Bytes of what it keeps: its weights are the backend's."""
        return self._ids.nbytes

    def guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        """A tree for each answer, a chain and what stands beside it; None where no state is known.

        Raises:
            DeviceError: the backend failed.
        """
        asked_s = self._clock()

        def guess() -> list[Guess | None]:
            self._waited_s += self._clock() - asked_s
            return self._guess(asked)

        return self._turns.take(guess)

    def forget(self, key: int) -> None:
        """It keeps nothing of an answer."""

    def close(self) -> None:
        """The backend is its model's."""

    def take_in(self, tokens: Sequence[int], states: Sequence[Float]) -> tuple[Float, Float]:
        """Runs the draft once; for `guess`, and for measurements, in a turn where others share the backend.

        Args:
            tokens: one for each answer, as many as the draft's largest size at most.
            states: (E,) float32 before each.

        Returns:
            (n, V') float32 logits over `ids` after each, and (n, E) float32 states.

        Raises:
            DeviceError: the backend failed.
        """
        count = len(tokens)
        shape = next(shape for shape in self._shapes if shape.tokens >= count)
        arrays = self._backend.buffers(shape)
        arrays.tokens[:count] = tokens
        arrays.extra[STATE][:count] = states
        arrays.tokens[count:] = 0
        arrays.extra[STATE][count:] = 0
        self._backend.run(shape, NO_CELLS)
        # Another part of the same answers would overwrite what is shared by sizes of one signature.
        after = arrays.extra[NEXT_STATE][:count].astype(np.float32)
        return arrays.logits[:count].copy(), after

    def _guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        chains = []
        for place, request in enumerate(asked):
            if request.state is not None and 1 <= request.pending <= _MOST_PENDING:
                pending = request.tokens[-request.pending :].tolist()
                chains.append(_Chain(place, request.state, pending))
        running = chains
        while running:
            logits = self._run(running)
            ahead = [row for row, chain in enumerate(running) if not chain.tokens]
            running = self._choose(asked, running, ahead, logits)
        guesses: list[Guess | None] = [None] * len(asked)
        for chain in chains:
            if chain.guessed:
                guesses[chain.place] = Guess(*zip(*chain.guessed, strict=True))
        return guesses

    def _choose(
        self, asked: Sequence[DraftRequest], running: list[_Chain], ahead: list[int], logits: Float
    ) -> list[_Chain]:
        """Lets chains that have taken all tokens in guess the next; those that go on."""
        if ahead:
            for row, found in zip(ahead, self._two_likeliest(logits[ahead]), strict=True):
                chain, request = running[row], asked[running[row].place]
                if found is None:
                    chain.tokens.clear()
                    continue
                first, second = found
                room = request.most - len(chain.guessed)
                chain.add(first, second if room > 1 else None)
                deepest = min(request.deepest, self._depth)
                if room <= 2 or chain.depth >= deepest or chain.reach < _LEAST_REACH:
                    chain.tokens.clear()
        return [chain for chain in running if chain.tokens]

    def _two_likeliest(self, rows: Float) -> list[tuple[tuple[int, float], tuple[int, float] | None] | None]:
        """The model's tokens of the two largest logits of each row, with their shares of it.

        None for a row that says nothing: weights of a stranger's draft may give what is no number.
        """
        found: list[tuple[tuple[int, float], tuple[int, float] | None] | None] = []
        for row in rows:
            if not np.isfinite(row).all():
                found.append(None)
                continue
            best = int(row.argmax())
            with np.errstate(over="ignore"):  # so far below that nothing is left of it
                powers = np.exp(row - row[best])
            total = float(powers.sum())
            powers[best] = -1.0
            other = int(powers.argmax())
            second = (int(self._ids[other]), float(powers[other]) / total) if len(row) > 1 else None
            found.append(((int(self._ids[best]), 1.0 / total), second))
        return found

    def _run(self, chains: list[_Chain]) -> Float:
        """Has every chain take one token in; logits after it: (n, V') float32, valid until the next run."""
        began = self._clock()
        largest = self._shapes[-1].tokens
        found = [self._take(chains[first : first + largest]) for first in range(0, len(chains), largest)]
        seconds = self._clock() - began
        if self._opened:
            known = self._price_s or seconds
            share = _PRICE_FALLS if seconds < known else _PRICE_SHARE
            self._price_s = known + share * (min(seconds, _MOST_CHANGE * known) - known)
        self._opened = True
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _take(self, chains: list[_Chain]) -> Float:
        logits, after = self.take_in(
            [chain.tokens.pop(0) for chain in chains], [chain.state for chain in chains]
        )
        for row, chain in enumerate(chains):
            chain.state = after[row]
        return logits


def _kind_of(share: float) -> int:
    return bisect_right(_LEAST_SHARES, share) - 1
