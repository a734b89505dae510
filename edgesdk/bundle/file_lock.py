"""Locks between processes: held by a process, free the moment it ends, however it ends.

Locks of the system's own, not process ids: containers that share a folder do not share their numbers. A file
system without locks holds none, and whoever asks is told so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_POLL_S = 0.05


def try_lock(handle: int, *, shared: bool = False) -> bool | None:
    """Whether the lock was free and is now held; None where the file system has no locks.

    Args:
        handle: descriptor of an open file; closing it frees the lock.
        shared: whether others that share it may hold it, too; on Windows nobody shares.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


class FileLock:
    """Context manager that holds a lock file, which is there only as long as somebody holds or wants it.

    What a killed process leaves is an empty file with a free lock; the next one to want it takes it.
    """

    def __init__(self, path: Path, waiting: Callable[[], None] | None = None) -> None:
        """Prepares a lock.

        Args:
            path: of the lock file; its folder is there.
            waiting: called once when somebody else holds it, before waiting; what it raises ends the wait.
        """
        self._path = path
        self._waiting = waiting
        self._handle: int | None = None

    def __enter__(self) -> Self:
        """Takes the lock, or waits for it.

        Raises:
            OSError: the lock file cannot be made.
        """
        told = False
        while not self._take():
            if not told and self._waiting is not None:
                self._waiting()
            told = True
            time.sleep(_POLL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the file and frees the lock."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if os.name == "nt":  # an open file cannot be removed there; who has just opened it keeps it
            os.close(handle)
            handle = None
        with contextlib.suppress(OSError):
            self._path.unlink()
        if handle is not None:
            os.close(handle)

    def _take(self) -> bool:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            # Who held it until now may have removed the very file that was opened here.
            if try_lock(handle) is not False and self._is_there(handle):
                self._handle = handle
                return True
        finally:
            if self._handle is None:
                os.close(handle)
        return False

    def _is_there(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self._path))
        except OSError:
            return False
