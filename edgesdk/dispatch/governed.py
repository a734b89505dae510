"""Does what a governor says: opens what runs with fewer threads, or on another device, and moves to it.

Threads are set when a runtime opens a model, so each change opens the variant once more, in a thread, while
what runs goes on. Limits are compared with those of the last attempt: one that failed is not tried again
until they change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic

from edgesdk.devices.governor import Governor, GovernorLimits
from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.mover import M, Move, Opener
from edgesdk.dispatch.open_beside import OpenBeside

Key = tuple[str, str, str]

OpenWith = Callable[[Candidate, int], Opener[M]]
"""Makes what opens a candidate with so many threads."""


class GovernedMover(Generic[M]):
    """Implements `Mover` for a governor."""

    def __init__(
        self,
        governor: Governor,
        candidates: Sequence[Candidate],
        threads: int,
        opener: OpenWith[M],
        context: int | None,
    ) -> None:
        """Starts without limits.

        Args:
            governor: says what may be used.
            candidates: that may run the model: those of the load, then others with equal weights.
            threads: CPU threads of the load.
            opener: makes what opens one of them.
            context: of the model, to tell when it is limited; None when another mover does.
        """
        self._governor = governor
        self._home: Key | None = None
        self._brought: Key | None = None
        self._threads: dict[Key, int] = {}
        self._candidates = {candidate.key: candidate for candidate in candidates}
        self._most = threads
        self._opener = opener
        self._context = context
        self._tried = GovernorLimits()
        self._opening: OpenBeside[M] | None = None
        self._aim: tuple[Candidate, int, str] | None = None
        self._said: deque[Incident] = deque()

    def poll(self, runner: Runner) -> Move[M] | Incident | None:
        """The change that is due; opening goes on in a thread."""
        if runner.key not in (self._home, self._brought):
            # The load, failover or another mover brought it: that is where it goes without limits.
            self._home = runner.key
            self._begin_anew()
        if self._opening is not None:
            move = self._take(self._opening)
            if move is not None:
                return move
        if self._opening is None:
            limits = self._governor.limits()
            if limits != self._tried:
                before, self._tried = self._tried, limits
                self._start(runner, before, limits)
        return self._said.popleft() if self._said else None

    def failed(self, runner: Runner) -> None:
        """Forgets a candidate, so that it is not opened again."""
        self._candidates.pop(runner.key, None)
        self._threads.clear()  # what takes over has the threads of the load
        self._begin_anew()

    def close(self) -> None:
        """Drops what is being opened."""
        if self._opening is not None:
            self._opening.close()
            self._opening = None

    def _begin_anew(self) -> None:
        """Has the limits of the moment applied to what runs now; what was said of the context holds."""
        self._tried = GovernorLimits(context_tokens=self._tried.context_tokens)
        self.close()

    def _take(self, opening: OpenBeside[M]) -> Move[M] | None:
        ended = opening.take()
        if ended is None or self._aim is None:
            return None
        self._opening = None
        target, threads, reason = self._aim
        for refused, why in ended.refused:
            self._said.append(
                Incident(refused, f"{reason}, but it could not be opened: {why}", None, "governed")
            )
        if ended.found is None:
            return None
        opened, backend, _ = ended.found
        self._brought = target.key
        self._threads[target.key] = threads
        reopen = self._opener(target, self._most)
        return Move(opened, backend, reason, "governed", reopen, threads)

    def _start(self, runner: Runner, before: GovernorLimits, limits: GovernorLimits) -> None:
        """Opens what the limits ask for, if that is not what runs."""
        if self._context is not None and limits.context_tokens != before.context_tokens:
            context = min(self._context, limits.context_tokens or self._context)
            self._say(runner, f"{limits.reason}: requests of up to {context} tokens from now on")
        target = self._target(runner, limits)
        if target is None:
            return
        # Threads are of no account to other devices, and opening a model there may take minutes.
        threads = limits.threads(self._most) if target.device == "cpu" else self._most
        now = self._threads.get(runner.key, self._most)
        if (target.key, threads) == (runner.key, now):
            return
        what = f"{threads} thread{'s' if threads > 1 else ''}"
        if target.key == runner.key:
            what += f" instead of {now}"
        elif target.device != runner.device:
            what = f"to {target.device}" + (f" with {what}" if target.device == "cpu" else "")
        self._aim = (target, threads, f"{limits.reason}: {what}")
        self._opening = OpenBeside([(Runner(*target.key, ""), self._opener(target, threads))])

    def _target(self, runner: Runner, limits: GovernorLimits) -> Candidate | None:
        """What is to run: on the device that is asked for, else what was loaded, else what runs."""
        if limits.device is not None and limits.device != runner.device:
            for candidate in self._candidates.values():
                if candidate.device == limits.device:
                    return candidate
            self._say(runner, f"{limits.reason}: nothing on {limits.device} can take over")
        stays = self._candidates.get(runner.key)
        if limits.device is not None or self._home is None:
            return stays
        return self._candidates.get(self._home, stays)

    def _say(self, runner: Runner, what: str) -> None:
        self._said.append(Incident(runner, what, runner, "governed"))
