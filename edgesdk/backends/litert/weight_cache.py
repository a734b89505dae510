"""Where XNNPACK keeps its packed copy of a model's weights, shared by sizes and processes.

The file is keyed by everything it depends on: the model's digest, the library's version and the
processor. It is built under another name and renamed when it is whole, so two processes may build it
at once and neither sees half a file. Its name also tells its size: a file of another size is damaged and
is built anew, again under another name, because LiteRT would mend it in place, where other processes may
have it mapped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgesdk.bundle.integrity import cache_folder
from edgesdk.devices.cpu import instruction_sets

_ABANDONED_S = 3600
"""A file that is still being built after this long belongs to a process that is gone."""

_UNUSED_S = 60 * 86400
"""A file that nothing has loaded for this long goes when another is built."""


@dataclass(frozen=True)
class WeightCache:
    """A cache file.

    Attributes:
        path: where LiteRT reads it or builds it now.
        key: what it depends on, as the first part of the name that it ends up with.
        hit: whether it is already built.
    """

    path: Path
    key: str
    hit: bool

    def finish(self) -> None:
        """Puts a newly built file in place; a file that LiteRT did not write is left alone."""
        if self.hit or not self.path.exists():
            return
        built = self.path.with_name(f"{self.key}-{self.path.stat().st_size}.bin")
        os.replace(self.path, built)
        for other in self.path.parent.glob(f"{self.key}-*.bin"):
            if other != built:  # damaged, or it would have been used
                with contextlib.suppress(OSError):
                    other.unlink()

    def abandon(self) -> None:
        """Removes a half-built file."""
        if not self.hit:
            self.path.unlink(missing_ok=True)


def find_weight_cache(digest: str) -> WeightCache | None:
    """The cache of the model with this sha256; None if the cache folder cannot be written."""
    key, folder = _key(digest), cache_folder() / "xnnpack"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for found in folder.glob(f"{key}-*.bin"):
            if found.name == f"{key}-{found.stat().st_size}.bin":
                with contextlib.suppress(OSError):  # of another user
                    os.utime(found)
                return WeightCache(found, key, True)
        if not os.access(folder, os.W_OK):
            return None
        _sweep(folder)
        building = folder / f"{key}.{os.getpid()}.building"
        building.unlink(missing_ok=True)  # of a process that had this number before
    except OSError:
        return None
    return WeightCache(building, key, False)


@contextmanager
def forgotten_on_failure(digests: Collection[str]) -> Iterator[None]:
    """Leaves no cache behind that was built inside a block that fails, for models that go away with it.

    Args:
        digests: sha256 of the models.
    """
    folder = cache_folder() / "xnnpack"
    try:
        keys = [_key(digest) for digest in digests]
    except PackageNotFoundError:  # without LiteRT nothing is packed
        keys = []
    before = {key for key in keys if any(folder.glob(f"{key}-*.bin"))}
    try:
        yield
    except BaseException:
        for key in set(keys) - before:
            for left in (*folder.glob(f"{key}-*.bin"), folder / f"{key}.{os.getpid()}.building"):
                with contextlib.suppress(OSError):
                    left.unlink()
        raise


def _key(digest: str) -> str:
    return hashlib.sha256(f"{digest}|{version('ai-edge-litert')}|{_processor()}".encode()).hexdigest()[:32]


@cache
def _processor() -> str:
    """Machine and instruction sets: XNNPACK packs differently for each family of kernels."""
    return f"{platform.machine()} {' '.join(instruction_sets()) or platform.processor()}"


def _sweep(folder: Path) -> None:
    """Removes what processes left that ended while they built, and what nothing uses any more."""
    now = time.time()
    for pattern, most in (("*.building", _ABANDONED_S), ("*.bin", _UNUSED_S)):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < now - most:
                    left.unlink()
