"""Resident memory of this process: its peak, and how to begin counting anew."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_rss_bytes() -> int | None:
    """Most resident memory that this process has had so far; None where the system does not say.

    Linux is asked through /proc, because `getrusage` there also counts the peak that the program
    which started this one had before it became this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    if found:
        return int(found[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def forget_peak() -> bool:
    """Begins to count the peak from what is resident now.

    Returns:
        Whether the system can do so: Linux does (proc(5), `clear_refs`).
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
