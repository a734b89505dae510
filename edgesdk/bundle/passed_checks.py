"""Remembers in the user's cache which content has passed a check that costs something.

What is remembered is a digest of everything that the check depends on, so changed content is checked again.
It knows nothing of what is checked.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.keep_newest import MOST_RECORDS, keep_newest


def has_passed(check: str, key: str) -> bool:
    """Whether content has passed before; it is as good as new then.

    Args:
        check: name of the check.
        key: digest of what it depends on.
    """
    marker = _marker(check, key)
    if marker is None:
        return False
    try:
        os.utime(marker)
    except FileNotFoundError:
        return False
    except OSError:  # of another user, or on a disk that is only read
        return marker.exists()
    return True


def remember_passed(check: str, key: str) -> None:
    """Remembers that content has passed, and the newest others; without a cache it is checked again."""
    marker = _marker(check, key)
    if marker is None:
        return
    with contextlib.suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        keep_newest(marker.parent, most=MOST_RECORDS)


def _marker(check: str, key: str) -> Path | None:
    """A file that is there once content has passed; None for a user without a cache."""
    try:
        return cache_folder() / check / key
    except FileNotFoundError:
        return None
