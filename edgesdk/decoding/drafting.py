"""A drafter as answers use it: whatever it does wrong costs its drafts, never an answer.

One that raises, takes too long, or proposes what cannot be is asked no more, and a note says why. It knows
nothing of how drafts come about or are judged.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from edgesdk.decoding.draft import Draft, Drafter, DraftRequest, JudgedStep, Waits
from edgesdk.errors import quoted

_PATIENCE_S = 2.0
_PATIENCE_PER_TOKEN_S = 0.005
"""For the tokens of its requests, which a drafter with a model has to run once."""


class Drafting:
    """Guards one drafter. Threads that share it take turns."""

    def __init__(
        self, drafter: Drafter, vocab_size: int, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Takes over a drafter.

        Args:
            drafter: closed with this object.
            vocab_size: V, of the model that judges.
            clock: seconds.
        """
        self._drafter = drafter
        self._waits = drafter if isinstance(drafter, Waits) else None
        self._vocab_size = vocab_size
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._ended: deque[int] = deque()
        self.name = _name_of(drafter)
        """What the drafter is called."""
        self.note: str | None = None
        """Why it is asked no more; None while it is."""
        self.draft_s = 0.0
        """Seconds that it has taken."""

    @property
    def on(self) -> bool:
        """Whether it is asked."""
        return self.note is None and not self._closed

    def propose(self, asked: Sequence[DraftRequest]) -> list[Draft | None]:
        """A sound draft for each answer, within what its request says, or None."""
        nothing: list[Draft | None] = [None] * len(asked)
        if not asked or not self.on:
            return nothing
        with self._lock:
            self._forget_ended()
            began = self._clock()
            waited = 0.0
            try:
                before = self._waited()
                drafts = self._drafter.propose(asked)
                waited = self._waited() - before
                if len(drafts) != len(asked):
                    raise ValueError(f"{len(drafts)} drafts for {len(asked)} answers")
                for request, draft in zip(asked, drafts, strict=True):
                    self._check(request, draft)
            except Exception as error:  # noqa: BLE001 - whatever it was, the answers go on
                self._switch_off(f"it failed: {type(error).__name__}: {quoted(str(error))}")
                return nothing
            finally:
                taken = self._clock() - began
                self.draft_s += taken
            taken -= waited
            if taken > _PATIENCE_S + _PATIENCE_PER_TOKEN_S * sum(len(request.tokens) for request in asked):
                self._switch_off(f"it took {taken:.1f} s for a draft")
            return list(drafts)

    def learn(self, step: JudgedStep) -> None:
        """Tells it of a step."""
        if self.on:
            with self._lock:
                self._forget_ended()
                self._do(partial(self._drafter.learn, step))

    def forget(self, key: int) -> None:
        """Tells it of the end of an answer, now or before it is asked again; may be called at any moment.

        An answer that nobody reads any more is ended by whoever finds it, which may be the collector of
        garbage in the middle of a proposal.
        """
        self._ended.append(key)
        if self._lock.acquire(blocking=False):
            try:
                self._forget_ended()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Releases the drafter; may be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._drafter.close()
            except Exception as error:  # noqa: BLE001 - nobody is left to use it
                self._switch_off(f"it failed at its end: {type(error).__name__}: {quoted(str(error))}")

    def _waited(self) -> float:
        return 0.0 if self._waits is None else self._waits.waited_s

    def _forget_ended(self) -> None:
        while self._ended:
            key = self._ended.popleft()  # one that is asked no more hears of nothing, and nothing piles up
            if self.on:
                self._do(partial(self._drafter.forget, key))

    def _do(self, act: Callable[[], None]) -> None:
        """Has the drafter do something, with the lock held."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - as in `propose`
            self._switch_off(f"it failed: {type(error).__name__}: {quoted(str(error))}")

    def _switch_off(self, reason: str) -> None:
        if self.note is None:
            self.note = f"drafts by {self.name} are off: {reason}"

    def _check(self, request: DraftRequest, draft: Draft | None) -> None:
        """Refuses what cannot be judged.

        Raises:
            ValueError: naming it.
        """
        if draft is None:
            return
        if not isinstance(draft, Draft):
            raise ValueError(f"a draft is a {type(draft).__name__}")
        count, depth = len(draft.tokens), int(draft.depths().max()) + 1
        if count > request.most or depth > request.deepest:
            raise ValueError(
                f"{count} drafted tokens, {depth} one after the other, where at most {request.most} and "
                f"{request.deepest} were asked for"
            )
        if not ((draft.tokens >= 0) & (draft.tokens < self._vocab_size)).all():
            raise ValueError(f"token ids outside the vocabulary of {self._vocab_size}")


def _name_of(drafter: Drafter) -> str:
    try:
        return str(drafter.name)
    except Exception:  # noqa: BLE001 - it will show with its first draft
        return type(drafter).__name__
