"""Where XNNPACK keeps its packed copy of a model's weights, shared by sizes and processes.

The file is keyed by everything it depends on: the model's digest, the library's version and the
processor. It is built under another name and renamed when it is whole, so two processes may build it
at once and neither sees half a file.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edgesdk.bundle.integrity import cache_folder


@dataclass(frozen=True)
class WeightCache:
    """A cache file: `path` is where LiteRT reads or builds it now, `final` where it ends up."""

    path: Path
    final: Path

    @property
    def hit(self) -> bool:
        """Whether it is already built."""
        return self.path == self.final

    def finish(self) -> None:
        """Puts a newly built file in place; a file that LiteRT did not write is left alone."""
        if not self.hit and self.path.exists():
            os.replace(self.path, self.final)

    def abandon(self) -> None:
        """Removes a half-built file."""
        if not self.hit:
            self.path.unlink(missing_ok=True)


def find_weight_cache(digest: str) -> WeightCache | None:
    """The cache of the model with this sha256; None if the cache folder cannot be written."""
    key = hashlib.sha256(f"{digest}|{version('ai-edge-litert')}|{_processor()}".encode()).hexdigest()[:32]
    folder = cache_folder() / "xnnpack"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    final = folder / f"{key}.bin"
    if final.exists():
        return WeightCache(final, final)
    if not os.access(folder, os.W_OK):
        return None
    return WeightCache(folder / f"{key}.{os.getpid()}.building", final)


def _processor() -> str:
    """Machine and instruction sets: XNNPACK packs differently for each kernel family."""
    try:
        info = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
    return f"{platform.machine()} {flags[1] if flags else ''}"
