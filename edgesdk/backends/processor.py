"""What packed weights depend on beside the file: the processor."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """Machine and instruction sets: libraries pack weights differently for each family of kernels."""
    try:
        info = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
    return f"{platform.machine()} {flags[1] if flags else ''}"
