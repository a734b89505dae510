"""Finds damage in the hub's cache: its blobs are named by their digests, which nobody compares later.

Large files are named by their sha256, others by the sha1 that git gives them (huggingface_hub, "Understand
caching"). Where the system has no links the cache holds plain copies, whose digests nothing tells.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")


def damaged_files(paths: Iterable[Path]) -> list[Path]:
    """Those files of a snapshot whose content has another digest than its blob's name, or is gone.

    Args:
        paths: links to blobs; other files are passed over.
    """
    return [path for path in sorted(paths) if path.is_symlink() and not _is_whole(path.resolve())]


def remove_blob(link: Path) -> None:
    """Removes a file of a snapshot with its blob, so that it is fetched again."""
    blob = link.resolve()
    link.unlink()
    blob.unlink(missing_ok=True)


def _is_whole(blob: Path) -> bool:
    try:
        with blob.open("rb") as stream:
            if _SHA256.fullmatch(blob.name):
                return hashlib.file_digest(stream, "sha256").hexdigest() == blob.name
            if _GIT_SHA1.fullmatch(blob.name):
                content = stream.read()
                head = b"blob %d\0" % len(content)
                return hashlib.sha1(head + content, usedforsecurity=False).hexdigest() == blob.name
    except OSError:
        return False
    return True
