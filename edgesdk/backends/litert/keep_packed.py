"""Writes packed weights into the cache folder while the model that was packed already runs.

A load pays for packing alone. Room for the copy is set aside first, so that a disk without it is known at
once; a thread that gives way to the model's own then makes it, in a draft that goes with the process
(docs/decisions/0050). A process that ends sooner waits for the copy, or those that live shortly would pack
each time; an interruption ends the wait. It knows neither what is packed nor what the file will be called.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO

from edgesdk.backends.litert.packing_memory import PackingMemory
from edgesdk.bundle.drafts import Draft

_PIECE_BYTES = 1 << 20
"""Copied and hashed together: a core's own cache holds it meanwhile."""

_NICE = 19
"""A copy gives way to the model's threads as far as the system lets it."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _GivenUpError(Exception):
    """Nobody waits for the copy any more."""


class _Copy:
    """A copy on its way."""

    def __init__(self, name: Path, memory: PackingMemory, place: Callable[[Path, str], object]) -> None:
        """Sets room aside.

        Raises:
            OSError: there is none, or no file can be written.
        """
        with ExitStack() as stack:
            self._memory = stack.enter_context(closing(memory.share()))
            self._path = stack.enter_context(Draft(name.parent)).path / "packed"
            self._file = stack.enter_context(self._path.open("xb", buffering=0))
            _set_room_aside(self._file, memory.size_bytes())
            self._held = stack.pop_all()
        self._stamp = memory.stamp()
        self._name, self._place = name, place
        self._given_up = threading.Event()
        # Waited for in place of the thread: one whose `join` was interrupted counts as ended in Python 3.11.
        self._over = threading.Event()
        # A daemon, because `_end` waits for it in a way that an interruption can end in order.
        self._thread = threading.Thread(target=self._run, name="edgesdk packed weights", daemon=True)

    def start(self) -> None:
        """Begins.

        Raises:
            OSError: the system gives no thread.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            self._held.close()
            self._over.set()
            raise OSError(0, str(error)) from error

    def wait(self) -> None:
        """Waits until it is in its place, or has failed."""
        self._over.wait()

    def give_up(self) -> None:
        """Ends it before its next piece, and leaves nothing of it."""
        self._given_up.set()
        self._over.wait()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            # What fails costs the copy alone: the model has its weights, and the next load packs again.
            with contextlib.suppress(OSError, _GivenUpError), self._held:
                digest = self._write()
                self._place(self._path, digest)
        finally:
            with _GUARD:
                _COPIES.pop(self._name, None)
            self._over.set()

    def _write(self) -> str:
        hashed, piece, done = hashlib.sha256(), memoryview(bytearray(_PIECE_BYTES)), 0
        while read := self._memory.read(piece, done):
            if self._given_up.is_set():
                raise _GivenUpError
            hashed.update(piece[:read])
            written = 0
            while written < read:
                written += self._file.write(piece[written:read])
            done += read
        if self._memory.stamp() != self._stamp:
            raise OSError(0, "the packed weights changed while they were copied")
        return hashed.hexdigest()


_COPIES: dict[Path, _Copy] = {}
_GUARD = threading.Lock()


def keep_packed(name: Path, memory: PackingMemory, place: Callable[[Path, str], object]) -> None:
    """Begins a copy, unless one of this name is on its way.

    Args:
        name: by which `wait_for` and `give_up` know it, in the folder where it will lie.
        memory: what to copy; may be closed once this returns. If it changes meanwhile, nothing is kept.
        place: puts the complete file, whose sha256 it is given, where it belongs.

    Raises:
        OSError: there is no room for it, or it cannot be written.
    """
    with _GUARD:
        if name in _COPIES:
            return
        copy = _Copy(name, memory, place)
        copy.start()
        # Last: nobody waits for one that an interruption kept from starting.
        _COPIES[name] = copy


def wait_for(name: Path) -> None:
    """Waits for a copy of this process that is on its way."""
    copy = _COPIES.get(name)
    if copy is not None:
        copy.wait()


def wait_for_all() -> None:
    """Waits for all of them."""
    for copy in list(_COPIES.values()):
        copy.wait()


def give_up(names: Iterable[Path]) -> None:
    """Ends copies, which leave nothing behind; what is complete stays."""
    for name in names:
        copy = _COPIES.get(name)
        if copy is not None:
            copy.give_up()


def _set_room_aside(file: BinaryIO, size: int) -> None:
    """Has the disk set room aside, where it can; C's own, because Python's may write the whole file."""
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(file.fileno(), 0, 0, size) and (code := ctypes.get_errno()) in _NO_ROOM:
        raise OSError(code, os.strerror(code))


@atexit.register
def _end() -> None:
    """Waits for what is on its way while the process ends, unless it is interrupted."""
    try:
        wait_for_all()
    except KeyboardInterrupt:
        give_up(list(_COPIES))


def _forget_all() -> None:
    """A forked child has the copies of its parent, but not their threads."""
    global _GUARD
    _GUARD = threading.Lock()
    _COPIES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
