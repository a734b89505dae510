"""What runs, what may take over from it, and what has happened: the part that steps and models share.

A successor takes over when what runs has failed, or when a mover asks for it. What failed is closed and never
opened again; what was moved away from is the first to take over again.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic

from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.mover import M, Move, Mover, Opener
from edgesdk.errors import DeviceError, EdgeError, first_line

_log = logging.getLogger("edgesdk.dispatch")


class Succession(Generic[M]):
    """One open backend and those behind it."""

    def __init__(
        self,
        first: M,
        runner: Runner,
        successors: Sequence[tuple[Runner, Opener[M]]],
        accept: Callable[[M], None],
        movers: Sequence[Mover[M]] = (),
        reopen: Opener[M] | None = None,
    ) -> None:
        """Starts with an open backend.

        Args:
            first: runs until it fails or is moved away from.
            runner: what it is.
            successors: in order.
            accept: takes a backend into use, or raises DeviceError if it does not fit.
            movers: asked by `follow_movers`; closed with this object.
            reopen: opens the first once more; None where what was moved away from must not take over again.
        """
        self.backend = first
        self.runner = runner
        self.incidents: tuple[Incident, ...] = ()
        self.threads: int | None = None
        """CPU threads of what a mover brought; None for those of the load."""
        self._failure: str | None = None
        self._successors = deque(successors)
        self._accept = accept
        self._movers = tuple(movers)
        self._reopen = reopen
        self._falls_back = reopen is not None

    def follow_movers(self) -> None:
        """Changes what runs, if a mover asks for it."""
        for mover in self._movers:
            while (found := mover.poll(self.runner)) is not None:
                if isinstance(found, Incident):
                    self._note(found)
                else:
                    self._move(found)

    def replace(self, error: Exception) -> None:
        """Closes what runs and opens the next that can take over.

        Args:
            error: what it failed with.

        Raises:
            DeviceError: there is none; it is the error that led here.
        """
        reason, failed = first_line(error), self.runner
        self._close_backend()
        self._quarantine(failed)
        while self._successors:
            runner, opener = self._successors.popleft()
            try:
                opened, backend = opener()
                self._take(backend)
            except (EdgeError, MemoryError) as refused:
                self._quarantine(runner)
                self._note(Incident(runner, f"could not take over: {first_line(refused)}", None))
                continue
            self.backend, self.runner, self._reopen, self.threads = backend, opened, opener, None
            self._note(Incident(failed, reason, opened))
            return
        self._note(Incident(failed, reason, None))
        self._failure = f"{failed} failed and nothing is left to take over: {reason}"
        raise DeviceError(self._failure) from error

    def expect_working(self) -> None:
        """Raises if nothing is left: an error for each caller, since one of all would gather their frames.

        Raises:
            DeviceError: as `replace` said.
        """
        if self._failure is not None:
            raise DeviceError(self._failure)

    def close(self) -> None:
        """Releases what is open."""
        for mover in self._movers:
            mover.close()
        self.backend.close()

    def _move(self, found: Move[M]) -> None:
        before = self.runner
        try:
            self._take(found.backend)
        except (EdgeError, MemoryError) as refused:
            reason = f"could not take over: {first_line(refused)}"
            self._note(Incident(found.runner, reason, None, found.kind))
            return
        self._close_backend()
        # Each waits once, and what runs does not wait.
        moved = (before.key, found.runner.key)
        self._successors = deque(entry for entry in self._successors if entry[0].key not in moved)
        if self._falls_back and self._reopen is not None and before.key != found.runner.key:
            self._successors.appendleft((before, self._reopen))
        self.backend, self.runner, self._reopen = found.backend, found.runner, found.reopen
        self.threads = found.threads
        self._note(Incident(before, found.reason, found.runner, found.kind))

    def _take(self, backend: M) -> None:
        try:
            self._accept(backend)
        except (EdgeError, MemoryError):
            backend.close()
            raise

    def _close_backend(self) -> None:
        with contextlib.suppress(EdgeError):
            self.backend.close()

    def _quarantine(self, runner: Runner) -> None:
        for mover in self._movers:
            mover.failed(runner)

    def _note(self, incident: Incident) -> None:
        self.incidents += (incident,)
        level = logging.WARNING if incident.kind == "failed" or incident.successor is None else logging.INFO
        _log.log(level, "%s", incident)


class Guarded(Generic[M]):
    """Something with successors behind it: what receipts tell of it, and its end."""

    def __init__(self, line: Succession[M]) -> None:
        """Takes over what runs and what may take over from it."""
        self._line = line

    @property
    def runner(self) -> Runner:
        """What runs now."""
        return self._line.runner

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """What changed, in order."""
        return self._line.incidents

    @property
    def threads(self) -> int | None:
        """CPU threads of what a mover brought; None for those of the load."""
        return self._line.threads

    def close(self) -> None:
        """Releases what is open."""
        self._line.close()
