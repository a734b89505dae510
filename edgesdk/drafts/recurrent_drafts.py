"""Guesses of a trained draft in the file of the model that runs: it goes on from what the model's head read.

It has no cells and reads no prompt, so it follows an answer wherever that goes: after a fork, out of a
prefix, on a backend that took over. From the state of the row that chose an answer's first token without
cells it takes those tokens in, then its own guesses, one after the other, all answers in one run for each.

It takes the likeliest token each time (a point draft): sampled answers stay those of their seed.
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
from edgesdk.bundle.step_shape import StepShape
from edgesdk.decoding.draft import DraftRequest
from edgesdk.drafts.guess import Guess

_LEAST_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.92)
"""Tokens to which the draft gives at least so much of its own vocabulary are of a kind."""

_PRIORS = (0.1, 0.2, 0.3, 0.45, 0.55, 0.65, 0.78, 0.9)
_LEAST_REACH = 0.1
"""A chain that is less likely to be right so far, by the draft's own word, goes no further."""

_MOST_PENDING = 32
"""Tokens without cells that it takes in at most; more are a prompt's, and the next step gives a state."""

_PRICE_SHARE = 0.1


@dataclass(eq=False)
class _Chain:
    """A guess in the making.

    Attributes:
        place: of the request.
        state: (E,) before `tokens`.
        tokens: to be taken in, at least one.
        guessed: so far, each with its kind.
        reach: how likely they are all right, by the draft's own word.
    """

    place: int
    state: Float
    tokens: list[int]
    guessed: list[tuple[int, int]] = field(default_factory=list)
    reach: float = 1.0


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
        self._shapes = sorted(shape for shape in backend.shapes if shape.stack == DRAFT)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def priors(self) -> Sequence[float]:
        """By the share that the draft gives to its token."""
        return _PRIORS

    @property
    def asks_model(self) -> bool:
        """It does."""
        return True

    @property
    def price_s(self) -> float:
        """Seconds of a run for all answers, as they have been lately."""
        return self._price_s

    @property
    def nbytes(self) -> int:
        """Bytes of what it keeps: its weights are the backend's."""
        return self._ids.nbytes

    def guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        """A chain for each answer; None where the state that it would start from is not known.

        Raises:
            DeviceError: the backend failed.
        """
        return self._turns.take(self._guess, asked)

    def forget(self, key: int) -> None:
        """It keeps nothing of an answer."""

    def close(self) -> None:
        """The backend is its model's."""

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
                tokens, kinds = zip(*chain.guessed, strict=True)
                guesses[chain.place] = Guess(tokens, tuple(range(-1, len(tokens) - 1)), kinds)
        return guesses

    def _choose(
        self, asked: Sequence[DraftRequest], running: list[_Chain], ahead: list[int], logits: Float
    ) -> list[_Chain]:
        """Lets chains that have taken all tokens in guess the next; those that go on."""
        if ahead:
            rows = logits[ahead]
            best = rows.argmax(axis=1)
            peaks = rows[np.arange(len(ahead)), best]
            shares = 1.0 / np.exp(rows - peaks[:, None]).sum(axis=1)
            for row, token, share in zip(ahead, best.tolist(), shares.tolist(), strict=True):
                chain, request = running[row], asked[running[row].place]
                mine = int(self._ids[token])
                chain.guessed.append((mine, bisect_right(_LEAST_SHARES, share) - 1))
                chain.reach *= share
                most = min(request.most, request.deepest, self._depth)
                if len(chain.guessed) < most and chain.reach >= _LEAST_REACH:
                    chain.tokens.append(mine)
        return [chain for chain in running if chain.tokens]

    def _run(self, chains: list[_Chain]) -> Float:
        """Has every chain take one token in; logits after it: (n, V') float32, valid until the next run."""
        began = self._clock()
        largest = self._shapes[-1].tokens
        found = [self._take(chains[first : first + largest]) for first in range(0, len(chains), largest)]
        seconds = self._clock() - began
        known = self._price_s or seconds
        self._price_s = known + _PRICE_SHARE * (seconds - known)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _take(self, chains: list[_Chain]) -> Float:
        count = len(chains)
        shape = next(shape for shape in self._shapes if shape.tokens >= count)
        arrays = self._backend.buffers(shape)
        states = arrays.extra[STATE]
        for row, chain in enumerate(chains):
            arrays.tokens[row] = chain.tokens.pop(0)
            states[row] = chain.state
        arrays.tokens[count:] = 0
        states[count:] = 0
        self._backend.run(shape, NO_CELLS)
        after = arrays.extra[NEXT_STATE][:count].copy()
        for row, chain in enumerate(chains):
            chain.state = after[row]
        # Another part of the same chains would overwrite what is shared by sizes of one signature.
        return arrays.logits[:count].copy()


def draft_shapes(backend: StepBackend) -> list[StepShape]:
    """Sizes of the trained draft that a backend runs; none without one."""
    return sorted(shape for shape in backend.shapes if shape.stack == DRAFT)
