"""Memory with the name of a file, for LiteRT to write its packed weights into.

Linux and Android have such memory (memfd_create(2)); it is opened again by its name under /proc. LiteRT may
ask for that name later, so the memory must be kept as long as the model.
"""

from __future__ import annotations

import os
import sys
import weakref
from pathlib import Path


class PackingMemory:
    """A file in memory.

    Attributes:
        path: its name, for this process.
    """

    def __init__(self, handle: int) -> None:
        """Owns the descriptor of a file in memory."""
        self._handle = handle
        self._close = weakref.finalize(self, os.close, handle)
        self._close.atexit = False  # it ends with the process, which may wait for a copy of it
        self.path = Path(f"/proc/self/fd/{handle}")

    def size_bytes(self) -> int:
        """Bytes that were written so far."""
        return os.fstat(self._handle).st_size

    def stamp(self) -> tuple[int, int]:
        """Another one after every write."""
        found = os.fstat(self._handle)
        return found.st_size, found.st_mtime_ns

    def read(self, piece: memoryview, start: int) -> int:
        """Reads from a place on into `piece`; how many bytes, 0 at the end.

        Raises:
            OSError: it was closed.
        """
        return os.preadv(self._handle, [piece], start)

    def share(self) -> PackingMemory:
        """The same memory for somebody else, who closes it on their own."""
        return PackingMemory(os.dup(self._handle))

    def close(self) -> None:
        """Gives the memory back. May be called again."""
        self._close()


def open_packing_memory(size_bytes: int) -> PackingMemory | None:
    """Memory to pack a model into; None where the system has none, limits files, or has too little of it.

    Args:
        size_bytes: of the model; packed it has about as many, and the system cannot write this memory out
            to make room.
    """
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        return None
    import resource

    # The limit on files holds for these too, and LiteRT ends the process when it meets it.
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return None
    if _available_bytes() < 2 * size_bytes:
        return None
    try:
        memory = PackingMemory(os.memfd_create("edgesdk packed weights"))
    except OSError:
        return None
    if not memory.path.exists():  # /proc is not mounted
        memory.close()
        return None
    return memory


def _available_bytes() -> int:
    """What the system could give without writing anything out; 0 where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return 0
