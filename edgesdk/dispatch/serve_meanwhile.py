"""Moves to a better device once it is open: until then another one serves.

Opening may mean compiling for minutes, so it is done in a thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic

from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.mover import M, Move, Opener
from edgesdk.dispatch.open_beside import OpenBeside


class MeanwhileMover(Generic[M]):
    """Implements `Mover` for what is opened while another one serves."""

    def __init__(self, better: Sequence[tuple[Runner, Opener[M]]], threads: int) -> None:
        """Starts to open.

        Args:
            better: in order; the first that opens is moved to.
            threads: CPU threads that they are opened with.
        """
        self._threads = threads
        self._said: deque[Incident | Move[M]] = deque()
        self._opening: OpenBeside[M] | None = OpenBeside(better)

    def poll(self, runner: Runner) -> Move[M] | Incident | None:
        """What could not be opened, then the move to what could."""
        ended = None if self._opening is None else self._opening.take()
        if ended is not None:
            self._opening = None
            for refused, why in ended.refused:
                self._said.append(Incident(refused, f"could not take over: {why}", None, "ready"))
            if ended.found is not None:
                opened, backend, reopen = ended.found
                reason = f"served until {opened.backend} on {opened.device} was open"
                self._said.append(Move(opened, backend, reason, "ready", reopen, self._threads))
        return self._said.popleft() if self._said else None

    def failed(self, runner: Runner) -> None:
        """Of no account: what is being opened has not run yet."""

    def close(self) -> None:
        """Drops what is being opened or was not taken."""
        if self._opening is not None:
            self._opening.close()
            self._opening = None
        for entry in self._said:
            if isinstance(entry, Move):
                entry.backend.close()
        self._said.clear()
