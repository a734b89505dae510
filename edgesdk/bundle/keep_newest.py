"""Bounds a folder of small files in the cache: what was written or used last stays.

It does not know what the files say; whoever looks for one that has gone finds it out once more.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOST_RECORDS = 1000
"""Small files of one kind that are kept: more than anybody has bundles, less than a folder that is slow."""


def keep_newest(folder: Path, ending: str = "", most: int = MOST_RECORDS) -> None:
    """Removes the files of a folder that are older than its newest; what cannot be removed stays.

    Args:
        folder: where they are; other processes may add to it and remove from it meanwhile.
        ending: only of files whose names end so.
        most: how many stay.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = [e for e in entries if e.name.endswith(ending) and e.is_file(follow_symlinks=False)]
        if len(found) <= most:
            return
        dated = []
        for entry in found:
            with contextlib.suppress(OSError):
                dated.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path))
        for _, path in sorted(dated)[: max(len(dated) - most, 0)]:
            with contextlib.suppress(OSError):
                os.unlink(path)
