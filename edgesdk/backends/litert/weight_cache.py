"""Where XNNPACK keeps its packed copy of a model's weights, shared by sizes and processes.

LiteRT ends the process when it cannot write its cache (XNNPACK_ABORT_CHECK in LiteRT's weight_cache.cc), so
it never gets a file on a disk to write. It packs into memory, and what it packed is copied into the cache
folder while the model runs (`keep_packed`); a full disk costs the file, not the process
(docs/decisions/0015). Where there is no such memory, a child process packs.

A file is keyed by everything it depends on: the model's digest, the library's version and the processor. Its
name also tells its own digest, which is compared whenever the file system says that the file is not the one
that was compared last.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Literal

from edgesdk.backends.litert.keep_packed import give_up, keep_packed, wait_for
from edgesdk.backends.litert.packing_memory import PackingMemory, open_packing_memory
from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.drafts import Draft, sweep_drafts
from edgesdk.bundle.integrity import cache_folder, fingerprint
from edgesdk.bundle.write_file import put_in_place
from edgesdk.devices.cpu import instruction_sets
from edgesdk.version import package_version

_UNUSED_S = 60 * 86400
"""A file that nothing has loaded for this long goes when another is built."""

_CHILD_LIMIT_S = 600.0
_RECORD_LIMIT_BYTES = 4096
_NAME = re.compile(r"[0-9a-f]{32}-([0-9a-f]{64})\.bin")


class WeightCache:
    """Packed weights for one opening of a model.

    Attributes:
        path: what LiteRT is to be given; None when it is to pack for itself.
        state: `hit`, `built`, or None when nothing is kept.
        note: why nothing is kept, for the receipt; None when something is, or there is nothing to keep.
    """

    def __init__(
        self,
        key: str,
        folder: Path | None,
        path: Path | None,
        *,
        state: Literal["hit", "built"] | None = None,
        note: str | None = None,
        memory: PackingMemory | None = None,
        expect_whole: Callable[[], None] | None = None,
    ) -> None:
        """Belongs to one opening; `open_weight_cache` makes it."""
        self.path = path
        self.state: Literal["hit", "built"] | None = state
        self.note = note
        self._key = key
        self._folder = folder
        self._memory = memory
        self._expect_whole = expect_whole

    def finish(self) -> None:
        """Begins to keep what LiteRT has packed into memory, once the model is loaded.

        Raises:
            BundleError: the model's file is damaged; nothing is kept.
        """
        if self._expect_whole is not None:
            self._expect_whole()
        if self._memory is None or self._folder is None or not self._memory.size_bytes():
            return
        try:
            _keep(self._folder, self._key, self._memory)
        except OSError as error:
            self.note = _not_kept(error.strerror or str(error))
        else:
            self.state = "built"

    def release(self) -> None:
        """Gives the memory back, once LiteRT has let go of the model or could not load it."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def find_packed(digest: str) -> Path | None:
    """The packed weights of the model with this sha256, if they are there and whole."""
    key = _key(digest)
    try:
        folder = cache_folder() / "xnnpack"
        wait_for(folder / key)
        return _find(folder, key)
    except OSError:
        return None


def open_weight_cache(
    digest: str, model: Path, expect_whole: Callable[[], None] | None = None
) -> WeightCache:
    """Finds packed weights, or prepares to have them packed.

    Args:
        digest: sha256 of the model.
        model: its file.
        expect_whole: raises `BundleError` unless the file has that digest, which nothing is kept without;
            None where that is known.

    Raises:
        BundleError: the file is damaged.
    """
    key, folder, note = _key(digest), None, None
    try:
        folder = cache_folder() / "xnnpack"
        wait_for(folder / key)  # which takes less than to pack again
        sweep_drafts(folder)  # also of who was killed when the file was already in its place
        found = _find(folder, key)
        if found is not None:
            if expect_whole is not None:
                expect_whole()  # LiteRT trusts packed weights to be those of the file beside them
            return WeightCache(key, folder, found, state="hit")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, f"{folder} cannot be written")
        _sweep(folder)
        _check_space(folder, model.stat().st_size)
    except OSError as error:
        folder, note = None, _not_kept(error.strerror or str(error))
    memory = open_packing_memory(model.stat().st_size)
    if memory is not None:
        return WeightCache(key, folder, memory.path, note=note, memory=memory, expect_whole=expect_whole)
    if expect_whole is not None:
        expect_whole()
    if folder is None:
        return WeightCache(key, None, None, note=note)
    built, reason = _pack_beside(folder, key, model)
    if built is None:
        return WeightCache(key, folder, None, note=_not_kept(reason))
    return WeightCache(key, folder, built, state="built")


@contextmanager
def forgotten_on_failure(digests: Collection[str]) -> Iterator[None]:
    """Leaves no cache behind that was built inside a block that fails, for models that go away with it.

    Args:
        digests: sha256 of the models.
    """
    try:
        folder = cache_folder() / "xnnpack"
        keys = [_key(digest) for digest in digests]
    except (PackageNotFoundError, OSError):  # without LiteRT nothing is packed
        folder, keys = Path(), []
    before = {key for key in keys if any(folder.glob(f"{key}-*.bin"))}
    try:
        yield
    except BaseException:
        give_up([folder / key for key in set(keys) - before])
        for key in set(keys) - before:
            for left in folder.glob(f"{key}-*.bin"):
                _forget(left)
        raise


def _find(folder: Path, key: str) -> Path | None:
    for found in folder.glob(f"{key}-*.bin"):
        try:
            if _is_whole(found):
                with contextlib.suppress(OSError):  # of another user
                    os.utime(_record_of(found))
                return found
        except OSError:  # it has just been replaced
            continue
        _forget(found)
    return None


def _is_whole(packed: Path) -> bool:
    """Whether the content is what the name says: looked up as long as the file is the one that was hashed."""
    named = _NAME.fullmatch(packed.name)
    if named is None or not packed.is_file() or packed.is_symlink():
        return False
    now = fingerprint(packed, named[1])
    if read_checked(_record_of(packed), _RECORD_LIMIT_BYTES) == now:
        return True
    with packed.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != named[1]:
            return False
    with contextlib.suppress(OSError):  # without, the next load hashes again
        write_checked(_record_of(packed), list(now))
    return True


def _keep(folder: Path, key: str, memory: PackingMemory) -> None:
    """Begins to put packed weights into the cache.

    Raises:
        OSError: there is no room for them, or they cannot be written.
    """
    _check_space(folder, memory.size_bytes())
    keep_packed(folder / key, memory, partial(_place, folder, key))


def _pack_beside(folder: Path, key: str, model: Path) -> tuple[Path | None, str]:
    """Has a child process pack, which alone dies if its file cannot be written; or says why there is none."""
    from edgesdk.devices.run_isolated import run_isolated

    try:
        with Draft(folder) as draft:
            packed = draft.path / "packed"
            ended = run_isolated(
                ("-m", "edgesdk.backends.litert.pack_weights", str(model), str(packed)), _CHILD_LIMIT_S
            )
            if ended.reason is not None or not packed.exists():
                return None, f"packing in a process of its own failed: {ended.reason or 'it wrote nothing'}"
            return _place(folder, key, packed, _hash(packed)), ""
    except OSError as error:
        return None, error.strerror or str(error)


def _place(folder: Path, key: str, packed: Path, digest: str) -> Path:
    built = folder / f"{key}-{digest}.bin"
    put_in_place(packed, built)
    with contextlib.suppress(OSError):  # without, the next load hashes
        write_checked(_record_of(built), list(fingerprint(built, digest)))
    for other in folder.glob(f"{key}-*.bin"):
        if other != built:
            _forget(other)
    return built


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(0, f"they take {size / 1e6:.0f} MB, and {folder} has {free / 1e6:.0f} MB free")


def _not_kept(reason: str) -> str:
    return f"packed weights are not kept, so each load packs anew: {reason[:300]}"


def _record_of(packed: Path) -> Path:
    return packed.with_suffix(".json")


def _forget(packed: Path) -> None:
    for left in (packed, _record_of(packed)):
        with contextlib.suppress(OSError):
            left.unlink()


def _key(digest: str) -> str:
    return hashlib.sha256(
        f"{digest}|{package_version('ai-edge-litert')}|{_processor()}".encode()
    ).hexdigest()[:32]


@cache
def _processor() -> str:
    """Machine and instruction sets: XNNPACK packs differently for each family of kernels."""
    return f"{platform.machine()} {' '.join(instruction_sets()) or platform.processor()}"


def _sweep(folder: Path) -> None:
    """Removes what nothing uses any more."""
    oldest = time.time() - _UNUSED_S
    for packed in folder.glob("*.bin"):
        with contextlib.suppress(OSError):
            record = _record_of(packed)
            if (record if record.exists() else packed).stat().st_mtime < oldest:
                _forget(packed)
