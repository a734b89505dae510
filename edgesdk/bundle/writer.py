"""Writes a bundle as a whole or not at all.

Files are collected in a draft beside the target, on the same file system; `finish` hashes them, writes
the manifest, flushes everything to the disk and renames the folder. Whatever goes wrong before that,
Ctrl-C included, leaves the target as it was and nothing beside it; what a killed process leaves goes with
the next bundle that is written beside it. It knows nothing of what the files hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from edgesdk.bundle.drafts import Draft
from edgesdk.bundle.file_kinds import check_kind
from edgesdk.bundle.integrity import forget
from edgesdk.bundle.manifest import MANIFEST_NAME, FileRecord, Manifest
from edgesdk.bundle.names import check_name
from edgesdk.bundle.records import to_json
from edgesdk.bundle.write_file import check_portable, flush_folder
from edgesdk.errors import BundleError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = _FULL | {errno.EFBIG, errno.EIO, errno.EROFS}


class BundleWriter:
    """Context manager that collects the files of one bundle.

    Leaving the block without `finish` discards everything.

        with BundleWriter(target) as writer:
            writer.path("tokenizer.json").write_text(...)
            writer.finish(manifest)
    """

    def __init__(self, target: Path | str, *, overwrite: bool = False) -> None:
        """Prepares to write `target`.

        Args:
            target: folder of the bundle; missing parents are made.
            overwrite: replace a bundle that is already there. An empty folder is replaced anyway.

        Raises:
            BundleError: `target` exists and may not be replaced.
        """
        self._target = Path(os.path.abspath(target))
        self._overwrite = overwrite
        self._scratch = Draft(self._target.parent, self._target.name)
        self._draft = self._scratch.path / "bundle"
        self._made: list[Path] = []
        self._check_target()

    def __enter__(self) -> Self:
        """Makes the draft folder.

        Raises:
            BundleError: the disk is full, or the folder may not be written.
        """
        try:
            missing = [p for p in self._target.parents if not p.exists()]
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                self._made.append(folder)
            self._scratch.__enter__()
            self._draft.mkdir()
            self._check_target()  # a sweep may have put a bundle back
        except OSError as error:
            self._discard()
            raise self._explain(error) from error
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discards the draft unless `finish` has renamed it.

        Raises:
            BundleError: in place of the system's error when a file of the bundle could not be written.
        """
        self._discard()
        forget(self._draft)  # who has opened the preview has had it remembered
        if isinstance(error, OSError) and self._is_of_writing(error):
            raise self._explain(error) from error

    def path(self, name: str) -> Path:
        """Where to write the file `name` of the bundle; its folder is made.

        Raises:
            BundleError: a bundle may not hold a file of that name.
        """
        path = self._draft / check_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def scratch(self, name: str) -> Path:
        """A place beside the draft, on the same disk, for what is wanted only while the bundle is made."""
        return self._scratch.path / check_name(name)

    def finish(self, manifest: Manifest) -> Path:
        """Completes the bundle.

        Args:
            manifest: its `files` are replaced by what was written.

        Returns:
            The bundle's folder.

        Raises:
            BundleError: the target has appeared meanwhile, or the disk is full.
        """
        self.preview(manifest)
        try:
            self._check_target()
            self._swap()
        except OSError as error:
            raise self._explain(error) from error
        return self._target

    def preview(self, manifest: Manifest) -> Path:
        """Writes the manifest without finishing, so that the draft can be opened and measured.

        Args:
            manifest: its `files` are replaced by what was written so far.

        Returns:
            The draft's folder: a bundle that goes away unless `finish` is called.

        Raises:
            BundleError: the disk is full, or something was written that no bundle holds.
        """
        target = self._draft / MANIFEST_NAME
        try:
            target.unlink(missing_ok=True)
            files = {name: _flush_and_hash(path) for name, path in sorted(self._written())}
            complete = dataclasses.replace(manifest, files=files)
            text = json.dumps(to_json(complete), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            target.write_text(text, encoding="utf-8")
            _flush_and_hash(target)
        except OSError as error:
            raise self._explain(error) from error
        return self._draft

    def _written(self) -> list[tuple[str, Path]]:
        found = []
        for path in self._draft.rglob("*"):
            name = path.relative_to(self._draft).as_posix()
            if path.is_symlink():
                raise BundleError(f"{name!r} is a link; a bundle holds plain files")
            if path.is_file():
                found.append((check_kind(name), path))
        return found

    def _check_target(self) -> None:
        try:
            check_portable(self._target)
            os.lstat(self._target)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:  # too long, below a file, or no name at all
            reason = getattr(error, "strerror", None) or error
            raise BundleError(f"{str(self._target)[:200]} cannot be written: {reason}") from error
        # Only a bundle or an empty folder is ever replaced: a mistyped target must not cost a home folder.
        if self._target.is_symlink() or not self._target.is_dir():
            what = "a link" if self._target.is_symlink() else "not a folder"
            raise BundleError(f"{self._target} is {what}; choose another place")
        if not any(self._target.iterdir()):
            return
        if not (self._target / MANIFEST_NAME).is_file():
            raise BundleError(
                f"{self._target} has files and is not a bundle (no {MANIFEST_NAME}); choose another folder"
            )
        if not self._overwrite:
            raise BundleError(f"{self._target} holds a bundle; choose another folder")

    def _swap(self) -> None:
        flush_folder(self._draft)
        if not self._target.exists():
            self._draft.rename(self._target)
            flush_folder(self._target.parent)
            return
        # Whatever happens between the two, the draft puts the old bundle back when it goes.
        self._target.rename(self._scratch.replaced)
        self._draft.rename(self._target)
        flush_folder(self._target.parent)

    def _discard(self) -> None:
        self._scratch.__exit__(None, None, None)
        if not self._target.exists():
            for folder in reversed(self._made):
                with contextlib.suppress(OSError):  # someone else has put something there
                    folder.rmdir()

    def _is_of_writing(self, error: OSError) -> bool:
        """Whether it happened to a file of the bundle; a write that fails names no file."""
        if error.filename is None:
            return error.errno in _UNWRITABLE
        return error.errno in _FULL or str(error.filename).startswith(str(self._draft))

    def _explain(self, error: OSError) -> BundleError:
        if error.errno in _FULL:
            return BundleError(
                f"the disk is full while writing {self._target}; nothing was left behind, free some space"
            )
        return BundleError(f"{str(self._target)[:200]} cannot be written: {error.strerror or error}")


def _flush_and_hash(path: Path) -> FileRecord:
    with path.open("rb") as stream, ThreadPoolExecutor(max_workers=1) as pool:
        flushing = pool.submit(os.fsync, stream.fileno())  # the disk is slower than the digest
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        # Windows refuses to flush a file opened for reading; its rename is flushed with the folder.
        with contextlib.suppress(PermissionError):
            flushing.result()
        return FileRecord(sha256=digest, size_bytes=os.fstat(stream.fileno()).st_size)
