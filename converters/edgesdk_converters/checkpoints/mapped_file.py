"""A file as bytes in memory, of which only those stay resident that are being read.

A mapping makes every page that was touched part of the process until the system is short of memory; a
conversion touches them all, once or twice. It knows no format.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError


class MappedFile:
    """Maps a file that is not empty; one that is cut meanwhile is noticed."""

    def __init__(self, path: Path) -> None:
        """Maps it; reads nothing.

        Raises:
            CheckpointError: it cannot be opened, or is empty.
        """
        self._name = path.name
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise CheckpointError(f"{path.name} is empty; get it again") from error
        self._bytes = np.frombuffer(self._map, np.uint8)

    def view(self, offset: int, size: int) -> NDArray[np.uint8]:
        """Bytes of the file, not copied: (size,) uint8, which cannot be written.

        Raises:
            CheckpointError: the file ends before them: it was cut after its header had been read.
        """
        # The file itself is asked, too: touching a page behind its end would end the process.
        held = min(len(self._bytes), self._map.size())
        if offset + size > held:
            raise CheckpointError(
                f"{self._name} has {held} bytes, fewer than when its header was read: it was cut, get it "
                "again"
            )
        return self._bytes[offset : offset + size]

    def release_all(self) -> None:
        """Lets all pages go, the last one too, which is rarely whole."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def release(self, offset: int, size: int) -> None:
        """Lets pages go that nobody reads for now; views stay valid and bring them back."""
        if not hasattr(mmap, "MADV_DONTNEED"):  # Windows
            return
        start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)
