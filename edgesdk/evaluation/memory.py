"""Peak memory of this process."""

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
