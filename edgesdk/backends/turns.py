"""Turns on one opened backend: who may use its buffers and its native code, one thread at a time.

First come, first served: each turn waits for the one before it (Magnussen, Landin, Hagersten: Queue Locks on
Cache Coherent Multiprocessors, section 3), so that no thread starves, whatever the others do. A turn is one
step, so that a long prompt lets others in between its pieces. Locks are taken by `with` only, which Ctrl-C
cannot part from what they guard, so none is ever left behind.

After the end of a backend, and in a process that was forked after it was opened, a turn is refused: what is
native must not run without its threads. It knows nothing of what a turn does.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary, WeakSet

from edgesdk.errors import DeviceError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CLOSED = "the model is closed; load it again"

_AT_EXIT_S = 30.0
"""Longest wait for a step that runs while the interpreter ends."""


class _Ticket:
    """A place in the queue; its lock is held from the moment it is drawn until the turn is over.

    `before` is the ticket that it waits for, None once that is over. Whoever gives up waiting leaves it, so
    that the next in the queue waits for that one in its stead.
    """

    __slots__ = ("before", "lock", "thread")

    def __init__(self, thread: int) -> None:
        self.lock = threading.Lock()
        self.before: _Ticket | None = None
        self.thread = thread

    def wait(self) -> None:
        """Returns once those before are over; may be called again from within."""
        while (before := self.before) is not None:
            with before.lock:
                pass
            self.before = before.before


class Turns:
    """The queue before one backend."""

    def __init__(self, *natives: object) -> None:
        """Starts open.

        Args:
            natives: objects whose end joins threads: they are never freed in a forked child, which has none.
        """
        self.refusal: str | None = None
        """Why there are no turns any more."""
        self._natives = list(natives)
        self._gate = threading.RLock()
        self._last: _Ticket | None = None
        self._serving: _Ticket | None = None
        self._drawn: dict[int, _Ticket] = {}  # by thread: those in the queue
        self._at_the_end: list[Callable[[], object]] = []
        _ALL.add(self)

    @property
    def mine(self) -> bool:
        """Whether the calling thread has the turn."""
        serving = self._serving
        # An interrupt may have kept a past turn from being forgotten, but not its lock from being released.
        return serving is not None and serving.thread == threading.get_ident() and serving.lock.locked()

    def expect_open(self) -> None:
        """Raises what the next turn would be refused with.

        Raises:
            DeviceError: the backend is closed, or was opened before the process was forked.
        """
        if self.refusal is not None:
            raise DeviceError(self.refusal)

    def guard(self, native: object) -> None:
        """Has one more object not be freed in a forked child."""
        self._natives.append(native)

    def forget(self) -> None:
        """Lets go of what `guard` was given."""
        self._natives.clear()

    def take(self, act: Callable[[*Ts], T], *given: *Ts) -> T:
        """Does something in a turn; within a turn of the same thread at once.

        Args:
            act: what to do.
            given: what to call it with.

        Raises:
            DeviceError: the backend is closed, or was opened before the process was forked.
        """
        if self.refusal is not None:  # without waiting: in a child, nobody might ever release what is held
            self.expect_open()
        if self.mine:
            return act(*given)
        thread = threading.get_ident()
        ticket = self._drawn.get(thread)
        if ticket is not None and ticket.lock.locked():  # this thread waits, and has been struck
            return self._serve(ticket, act, given)
        ticket = _Ticket(thread)
        with ticket.lock:
            try:
                with self._gate:
                    # Python strikes after calls only, so this is done as one, and so is the end of it below.
                    ticket.before, self._last = self._last, ticket
                    self._drawn[thread] = ticket
                return self._serve(ticket, act, given)
            finally:
                if thread in self._drawn:
                    del self._drawn[thread]

    def end(self, release: Callable[[], object]) -> None:
        """Refuses turns from now on, after the one that runs; then calls `release`. May be called again.

        Within a turn of the same thread, that turn releases when it is over. In a forked child nothing is
        released: that would wait for threads that are not there.
        """

        if self.refusal is not None:
            return
        if self.mine:
            self.refusal = CLOSED
            self._at_the_end.append(release)
            return
        begun = False

        def close() -> None:
            nonlocal begun
            begun = True
            self.refusal = CLOSED
            release()

        try:
            self.take(close)
        except DeviceError:
            if begun:  # else somebody else has closed it meanwhile
                raise

    def refuse(self, reason: str, wait_s: float) -> None:
        """Has no native code run after this, without releasing anything.

        Args:
            reason: what later turns are refused with.
            wait_s: longest wait for the turn that runs.
        """
        if self.refusal is None:
            self.refusal = reason
            last = self._last
            if not self.mine and last is not None and last.lock.acquire(timeout=wait_s):
                last.lock.release()

    def orphan(self) -> None:
        """In a forked child: refuses turns, and keeps what is native as it is to the end of the process."""
        if self.refusal != CLOSED:
            self.refusal = (
                f"the model was loaded before this process was forked from {os.getppid()}, and the threads "
                "that run it are not here; load it in the child, or start the child with spawn"
            )
        for native in self._natives:
            keep_for_ever(native)

    def _serve(self, ticket: _Ticket, act: Callable[[*Ts], T], given: tuple[*Ts]) -> T:
        ticket.wait()
        self._serving = ticket
        try:
            if self.refusal is not None:
                self.expect_open()
            return act(*given)
        finally:
            if self._at_the_end:
                self._at_the_end.pop()()
            self._serving = None


def keep_for_ever(native: object) -> None:
    """Has an object not be freed, even when the process ends."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


_ALL: WeakSet[Turns] = WeakSet()
_OF: WeakKeyDictionary[object, Turns] = WeakKeyDictionary()


def turns_of(backend: object) -> Turns:
    """The queue before a step backend, the same for all who share it."""
    found = _OF.get(backend)
    return _OF.setdefault(backend, Turns()) if found is None else found


def _orphan_all() -> None:
    for turns in list(_ALL):
        turns.orphan()


def _refuse_all() -> None:
    """Daemon threads go on while the interpreter ends: a step that is under way then would crash it."""
    for turns in list(_ALL):
        turns.refuse("the interpreter is ending", _AT_EXIT_S)


atexit.register(_refuse_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_orphan_all)
