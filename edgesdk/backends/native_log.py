"""Keeps native libraries from writing on the terminal while they load.

They print to the process's standard error regardless of Python. What they print is caught, kept for
messages about failures, and logged at debug level.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import BinaryIO, cast

# Standard error belongs to the process: one thread at a time redirects it. That thread may do so again
# inside: Python's collector runs where it likes, and may free a model whose end is caught as well.
_LOCK = threading.RLock()
_LOG = logging.getLogger("edgesdk.native")


@contextmanager
def caught_native_log(*, stdout: bool = False, known: tuple[str, ...] = ("",)) -> Iterator[list[str]]:
    """Redirects file descriptor 2 inside the block.

    Args:
        stdout: descriptor 1 too, for libraries that would spoil what a command prints.
        known: how the library's lines begin; others are of other threads, and printed after the block.

    Yields:
        A list that holds the caught lines once the block has ended.
    """
    lines: list[str] = []
    with _LOCK, _open_memory() as caught:
        try:
            sys.stderr.flush()
            if stdout:
                sys.stdout.flush()
            kept = {number: os.dup(number) for number in ((1, 2) if stdout else (2,))}
        except (OSError, ValueError, AttributeError):  # no standard error to protect
            yield lines
            return
        for number in kept:
            os.dup2(caught.fileno(), number)
        try:
            yield lines
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
            caught.seek(0)
            text = caught.read().decode("utf-8", "replace")
            lines.extend(line for line in text.splitlines() if line.startswith(known))
            others = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(known))
            if others:
                os.write(2, others.encode("utf-8", "replace"))
            for line in lines:
                _LOG.debug("%s", line)


def _open_memory() -> BinaryIO:
    """A file to catch lines in: no disk is needed where the system has files in memory."""
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edgesdk native log"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


@cache
def hush_the_end() -> None:
    """Closes standard error as a last step of the process, after Python's own end.

    Some libraries keep a static object that prints when it is destroyed. Exit handlers run last in,
    first out, so one that is registered after the object exists runs before its destruction.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit(libc.close, ctypes.c_void_p(2), None)
    except (OSError, AttributeError, TypeError):  # Windows; a few harmless lines are printed there
        return


def _renew_lock() -> None:
    """A thread of the parent may have held it when the process was forked, and is not here to let go."""
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
