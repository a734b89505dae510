"""Sequences of one backend, lent and taken back: the one given back last is lent first, its memory is warm.

It may be used from several threads. It knows nothing of tokens or text.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque

from edgesdk.backends.protocol import SequenceBackend, TokenSequence
from edgesdk.backends.turns import CLOSED
from edgesdk.errors import DeviceError


class IdleSequences:
    """Keeps at most one sequence that nobody uses."""

    def __init__(self, backend: SequenceBackend) -> None:
        """Lends sequences of a backend, which stays the caller's."""
        self._backend = backend
        # Handed out without a lock, which a forked child might find taken.
        self._idle: deque[TokenSequence] = deque()
        self._closed = False

    def new(self) -> TokenSequence:
        """An empty sequence of the caller's own.

        Raises:
            DeviceError: closed.
        """
        if self._closed:
            raise DeviceError(CLOSED)
        return self._backend.new_sequence()

    def borrow(self) -> TokenSequence:
        """An empty sequence, to be given back.

        Raises:
            DeviceError: closed.
        """
        if self._closed:
            raise DeviceError(CLOSED)
        try:
            return self._idle.pop()
        except IndexError:
            return self._backend.new_sequence()

    def give_back(self, sequence: TokenSequence, *, reusable: bool) -> None:
        """Takes a sequence back.

        Args:
            sequence: from `borrow`.
            reusable: nothing has failed in it.
        """
        if sys.is_finalizing():  # an unread answer at the end of the process: numpy is half gone
            return
        keep = reusable and not self._idle and not self._closed
        if keep:
            try:
                sequence.truncate(0)
            except DeviceError:  # closed just now, or let go of by a forked child
                keep = False
        if not keep:
            sequence.close()
            return
        self._idle.append(sequence)
        if self._closed:
            self._drop()

    def close(self) -> None:
        """Releases the one that is idle, and lends no more."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        with contextlib.suppress(IndexError):
            self._idle.pop().close()
