"""Digests of source files, for provenance."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from edgesdk.bundle.manifest import SourceFile
from edgesdk.errors import CheckpointError

_PIECE_BYTES = 4 << 20


class Progress(Protocol):
    """Told how far reading a file is."""

    def __call__(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """Called after every piece, for the last time with both numbers equal."""


def describe_file(path: Path, progress: Progress | None = None) -> SourceFile:
    """Name, sha256 and size of a file, read in pieces.

    Args:
        path: the file.
        progress: told how far it is.

    Raises:
        CheckpointError: it cannot be read.
    """
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            total = path.stat().st_size
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
                done += len(piece)
                if progress is not None:
                    progress(f"hashing {path.name}", done, total)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return SourceFile(path.name, digest.hexdigest(), done)
