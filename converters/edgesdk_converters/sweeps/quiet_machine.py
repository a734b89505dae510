"""Who measures time has the machine to itself: jobs of sweeps share it, or one of them has it alone.

Two lock files of the user: `room` is shared by ordinary jobs and held by one that is alone; whoever wants
either takes `gate` first, and who wants to be alone keeps it while it waits, so that no stream of ordinary
jobs makes it wait for ever. Programs that are not jobs of a sweep are not asked. Where there are no shared
locks (Windows), jobs of one machine take turns.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from edgesdk.bundle.file_lock import try_lock

_POLL_S = 0.05


@contextlib.contextmanager
def on_machine(alone: bool, folder: Path | None = None) -> Iterator[None]:
    """Waits until the machine is free for a job, and holds it.

    Args:
        alone: whether nothing else of a sweep may run meanwhile.
        folder: where the lock files are; None for the system's folder for temporary files.

    Raises:
        OSError: a lock file cannot be opened.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    place = Path(tempfile.gettempdir()) if folder is None else folder
    gate, room = (_open(place / f".edgesdk-sweep-{user}-{name}.lock") for name in ("gate", "room"))
    try:
        _wait(gate, shared=False)
        try:
            _wait(room, shared=not alone)
        finally:
            os.close(gate)
        yield
    finally:
        os.close(room)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _wait(handle: int, *, shared: bool) -> None:
    while try_lock(handle, shared=shared) is False:
        time.sleep(_POLL_S)
