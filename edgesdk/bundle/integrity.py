"""Checks the files of a bundle against the sha256 that its manifest lists.

Hashing a large bundle on every load would cost more than loading it, so a digest that was found
right is remembered in the user's cache together with what the file system said about the file then
(size, modification and change time, inode). As long as all of that is the same, the file is only
looked up. `full=True` hashes whatever is remembered.

It guards against damage, not against an attacker who can write into the user's cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeGuard

from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import BundleError

Integrity = Literal["hashed", "unchanged"]

CACHE_VARIABLE = "EDGESDK_CACHE"

_SETTLED_NS = 50_000_000
"""A file written this recently could be written again within the same tick of its clock, unseen; it
is not remembered yet."""

_HASHERS = 4
_RECORD_LIMIT_BYTES = 4 << 20

Fingerprint = list[int | str]


def cache_folder() -> Path:
    """Where edgesdk keeps what it may lose: `$EDGESDK_CACHE`, or the platform's cache folder.

    Raises:
        FileNotFoundError: neither is there: the variable is not set, and the user has no home folder.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_cache_dir

    try:
        found = Path(user_cache_dir("edgesdk"))
    except (RuntimeError, KeyError):  # the user is not in the system's list
        found = Path()
    if not found.is_absolute():  # it would be a folder named ~ in the current one
        raise FileNotFoundError(
            errno.ENOENT, f"this user has no home folder to keep a cache in; set {CACHE_VARIABLE} to a folder"
        )
    return found


def check_integrity(bundle: Bundle, names: Collection[str] | None = None, *, full: bool = False) -> Integrity:
    """Checks files against their recorded digests.

    Args:
        bundle: the bundle.
        names: files to check; all listed ones when None.
        full: hash even what is remembered as right.

    Returns:
        `unchanged` when every file was remembered as right, `hashed` when at least one was hashed.

    Raises:
        BundleError: a file is absent or differs from its digest; the message names it.
    """
    return begin_integrity(bundle, names, full=full).result()


def begin_integrity(
    bundle: Bundle, names: Collection[str] | None = None, *, full: bool = False
) -> Future[Integrity]:
    """The same beside other work: what must be hashed is hashed by threads.

    Returns:
        What `check_integrity` returns, or raises for a file that differs; there at once if all is remembered.

    Raises:
        BundleError: a file is absent, or has another size.
    """
    wanted = {name: bundle.file(name) for name in (bundle.manifest.files if names is None else names)}
    for name, path in wanted.items():
        _check_size(bundle, name, path.stat().st_size)
    record = _record_path(bundle.path)
    remembered = {} if record is None else _load(record)
    known = {} if full else remembered
    fresh = {
        name: path
        for name, path in wanted.items()
        if known.get(name) != fingerprint(path, bundle.manifest.files[name].sha256)
    }
    found: Future[Integrity] = Future()
    if not fresh:
        found.set_result("unchanged")
        return found
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        return pool.submit(_hash_all, bundle, fresh, remembered, record)
    finally:
        pool.shutdown(wait=False)


def _hash_all(
    bundle: Bundle, fresh: Mapping[str, Path], remembered: dict[str, Fingerprint], record: Path | None
) -> Integrity:
    """Hashes files, and remembers those that are right."""
    with ThreadPoolExecutor(max_workers=_HASHERS) as pool:
        checked = list(pool.map(lambda item: _hash(bundle, *item), fresh.items()))
    for name, seen in zip(fresh, checked, strict=True):
        remembered.pop(name, None)
        if seen is not None:
            remembered[name] = seen
    if record is not None:
        _save(record, {name: value for name, value in remembered.items() if name in bundle.manifest.files})
    return "hashed"


def forget(folder: Path) -> None:
    """Forgets what is remembered of the bundle in a folder, which need not be there any more."""
    record = _record_path(folder)
    if record is not None:
        with contextlib.suppress(OSError):
            record.unlink(missing_ok=True)


def _check_size(bundle: Bundle, name: str, size: int) -> None:
    expected = bundle.manifest.files[name].size_bytes
    if size != expected:
        raise BundleError(
            f"{name} in {bundle.path} is {size} bytes, its manifest says {expected}; "
            "copy or convert the bundle again"
        )


def _hash(bundle: Bundle, name: str, path: Path) -> Fingerprint | None:
    """Hashes one file; returns what to remember, or None when it is too young to be remembered."""
    expected = bundle.manifest.files[name].sha256
    started_ns = time.time_ns()
    before = fingerprint(path, expected)
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{name} in {bundle.path} cannot be read: {error.strerror}") from error
    if found != expected.lower():
        raise BundleError(
            f"{name} in {bundle.path} is damaged: sha256 {found[:12]}..., expected {expected[:12]}...; "
            "copy or convert the bundle again"
        )
    settled = path.stat().st_mtime_ns < started_ns - _SETTLED_NS
    return before if settled and before == fingerprint(path, expected) else None


def fingerprint(path: Path, digest: str) -> Fingerprint:
    """What the file system says of a file with a sha256: as long as it says so, the file is the same."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, digest]


def _record_path(folder: Path) -> Path | None:
    """Where the bundle's record is; None for a user without a cache."""
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    try:
        return cache_folder() / "integrity" / f"{key}.json"
    except FileNotFoundError:
        return None


def _load(record: Path) -> dict[str, Fingerprint]:
    """What is remembered; nothing when the record is absent or damaged, which costs one hash."""
    entries = read_checked(record, _RECORD_LIMIT_BYTES)
    if not isinstance(entries, dict):
        return {}
    return {name: value for name, value in entries.items() if _is_fingerprint(value)}


def _is_fingerprint(value: JsonValue) -> TypeGuard[Fingerprint]:
    return isinstance(value, list) and all(isinstance(part, int | str) for part in value)


def _save(record: Path, entries: dict[str, Fingerprint]) -> None:
    """Replaces the record; a cache that cannot be written only means hashing again."""
    with contextlib.suppress(OSError):
        write_checked(record, {name: list(value) for name, value in entries.items()})
