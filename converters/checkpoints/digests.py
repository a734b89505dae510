"""Digests of source files, for provenance."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgesdk.bundle.manifest import SourceFile
from edgesdk.errors import CheckpointError


def describe_file(path: Path) -> SourceFile:
    """Name, sha256 and size of a file, read in pieces.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return SourceFile(path.name, digest, stream.tell())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
