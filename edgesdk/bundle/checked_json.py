"""JSON documents in the cache, with a checksum: what a disk or a killed process damaged is not believed.

A folder keeps the records that were written last (`keep_newest`): those of bundles that are gone would stay
for ever.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgesdk.bundle.keep_newest import MOST_RECORDS, keep_newest
from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.write_file import write_file


def write_checked(path: Path, document: JsonValue, *, bounded: bool = True) -> None:
    """Writes a document; missing folders are made, and the oldest of many documents beside it removed.

    Args:
        path: the file.
        document: what is written.
        bounded: no more than `MOST_RECORDS` documents stay in the folder; all, if not.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(document, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")
    if bounded:
        keep_newest(path.parent, path.suffix, MOST_RECORDS)


def read_checked(path: Path, limit_bytes: int) -> JsonValue:
    """What `write_checked` wrote; None when it is absent, damaged or longer than the limit."""
    try:
        with path.open("rb") as stream:
            digest, _, text = stream.read(limit_bytes).rstrip(b"\n").partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            return None
        found: JsonValue = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return found
