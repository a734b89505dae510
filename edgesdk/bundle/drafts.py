"""Drafts: folders that hold what is not finished, and go with the process that made them.

Whoever writes something works in a draft beside the target, on the same file system, and renames what is
complete out of it. A process that is killed leaves its draft behind. So each draft holds a lock file that
its process keeps locked as long as it lives, and whoever opens a draft in the same folder removes those whose
lock is free. Locks, not process ids: containers that share a folder do not share their numbers. It does not
know what is written.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from edgesdk.bundle.file_lock import try_lock

_NAME = re.compile(r"\.edgesdk-[0-9a-f]{12}\.partial")
_LOCK = "lock"
_REPLACED = "replaced"

_ABANDONED_S = 86400.0
"""Where a file system has no locks, a draft that has not changed for this long has no process any more."""


class Draft:
    """Context manager: a hidden folder that only this process uses and that is gone afterwards.

    Attributes:
        path: the folder; what is put there goes away unless it is renamed out of it.
        replaced: where to put what stood at the target until its successor stands there. If the process is
            killed between the two, the next draft in the same folder puts it back.
    """

    def __init__(self, parent: Path, target: str = "") -> None:
        """Prepares a draft.

        Args:
            parent: folder to make it in.
            target: name in `parent` that `replaced` belongs to.
        """
        self._parent = parent
        self._target = target
        self.path = parent / f".edgesdk-{os.urandom(6).hex()}.partial"
        self.replaced = self.path / _REPLACED
        self._handle: int | None = None

    @property
    def lock(self) -> int:
        """Descriptor of the lock, for a child process that works in the draft and may outlive this one."""
        if self._handle is None:
            raise ValueError("the draft is not open")
        return self._handle

    def __enter__(self) -> Self:
        """Removes the drafts of dead processes, and makes this one.

        Raises:
            OSError: the folder cannot be written.
        """
        sweep_drafts(self._parent)
        try:
            while not self._make():
                pass
        except BaseException:
            self._release()
            _remove(self.path)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the folder with whatever is left in it, once what was replaced stands again or for good."""
        try:
            _put_back(self.path, self._target)
        except OSError:  # the next sweep tries again
            self._release()
            return
        if os.name == "nt":
            self._release()
        _remove(self.path)
        self._release()

    def _make(self) -> bool:
        """Makes the folder with its lock; False if a sweep took it before it was locked."""
        self._release()
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)  # it may be among the system's temporary files
        try:
            self._handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return False
        if try_lock(self._handle) is False or not os.fstat(self._handle).st_nlink:
            return False
        os.write(self._handle, self._target.encode("utf-8", "surrogateescape"))
        return True

    def _release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder among the system's temporary ones, for files that are wanted only meanwhile.

    Raises:
        OSError: no folder for temporary files can be written.
    """
    import tempfile

    with Draft(Path(tempfile.gettempdir())) as draft:
        yield draft.path


def is_draft(folder: Path) -> bool:
    """Whether a folder is a draft, or inside of one: it may be gone in a moment."""
    return any(_NAME.fullmatch(part) for part in folder.parts)


def sweep_drafts(folder: Path) -> None:
    """Removes the drafts in a folder whose processes are gone; what cannot be looked at stays."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _sweep(Path(entry.path))


def _sweep(draft: Path) -> None:
    found = draft.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "geteuid") and found.st_uid != os.geteuid()):
        return
    quiet_s = time.time() - found.st_mtime
    try:
        handle = os.open(draft / _LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        draft.rmdir()  # if it is empty; who is just making it makes it again
        return
    try:
        locked = try_lock(handle)
        if locked is False or (locked is None and quiet_s < _ABANDONED_S):
            return
        _put_back(draft, os.read(handle, 4096).decode("utf-8", "surrogateescape"))
        if os.name != "nt":
            _remove(draft)
    finally:
        os.close(handle)
    if os.name == "nt":  # an open file cannot be removed there
        _remove(draft)


def _put_back(draft: Path, target: str) -> None:
    """Ends the exchange of a target that was cut short: what stood there stands there again."""
    replaced = draft / _REPLACED
    place = draft.parent / target
    if target and place.parent == draft.parent and replaced.exists() and not os.path.lexists(place):
        replaced.rename(place)


def _remove(draft: Path) -> None:
    """Removes a draft, its lock last: whoever is killed meanwhile leaves one that can be told."""
    with contextlib.suppress(OSError), os.scandir(draft) as entries:
        for entry in list(entries):
            if entry.name == _LOCK:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    with contextlib.suppress(OSError):
        (draft / _LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        draft.rmdir()
