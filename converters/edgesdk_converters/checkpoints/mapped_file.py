"""A file as bytes in memory, of which only those stay resident that are being read.

A mapping makes every page that was touched part of the process until the system is short of memory; a
conversion touches them all, once or twice. It knows no format.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class MappedFile:
    """Maps a file that is not empty and does not change."""

    def __init__(self, path: Path) -> None:
        """Maps it; reads nothing.

        Raises:
            OSError: it cannot be opened.
            ValueError: it is empty.
        """
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(self._map, np.uint8)

    def view(self, offset: int, size: int) -> NDArray[np.uint8]:
        """Bytes of the file, not copied: (size,) uint8, which cannot be written."""
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
