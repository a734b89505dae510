"""Checks the files of a bundle against the sha256 that its manifest lists.

Hashing a large bundle on every load would cost more than loading it, so a digest that was found
right is remembered in the user's cache together with what the file system said about the file then
(size, modification and change time, inode). As long as all of that is the same, the file is only
looked up. `full=True` hashes whatever is remembered.

It guards against damage, not against an attacker who can write into the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from edgesdk.bundle.reader import Bundle
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
    """Where edgesdk keeps what it may lose: `$EDGESDK_CACHE`, or the platform's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("edgesdk"))


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
    wanted = {name: bundle.file(name) for name in (bundle.manifest.files if names is None else names)}
    for name, path in wanted.items():
        _check_size(bundle, name, path.stat().st_size)
    record = _record_path(bundle.path)
    remembered = _load(record)
    known = {} if full else remembered
    fresh = {
        name: path
        for name, path in wanted.items()
        if known.get(name) != _fingerprint(path, bundle.manifest.files[name].sha256)
    }
    if not fresh:
        return "unchanged"
    with ThreadPoolExecutor(max_workers=_HASHERS) as pool:
        checked = list(pool.map(lambda item: _hash(bundle, *item), fresh.items()))
    for name, fingerprint in zip(fresh, checked, strict=True):
        remembered.pop(name, None)
        if fingerprint is not None:
            remembered[name] = fingerprint
    _save(record, {name: value for name, value in remembered.items() if name in bundle.manifest.files})
    return "hashed"


def forget(folder: Path) -> None:
    """Forgets what is remembered of the bundle in a folder, which need not be there any more."""
    with contextlib.suppress(OSError):
        _record_path(folder).unlink(missing_ok=True)


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
    before = _fingerprint(path, expected)
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
    return before if settled and before == _fingerprint(path, expected) else None


def _fingerprint(path: Path, digest: str) -> Fingerprint:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, digest]


def _record_path(folder: Path) -> Path:
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return cache_folder() / "integrity" / f"{key}.json"


def _load(record: Path) -> dict[str, Fingerprint]:
    """What is remembered; nothing when the record is absent or damaged, which costs one hash."""
    try:
        with record.open("rb") as stream:
            entries = json.loads(stream.read(_RECORD_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _save(record: Path, entries: dict[str, Fingerprint]) -> None:
    """Replaces the record; a cache that cannot be written only means hashing again."""
    draft = record.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
    with contextlib.suppress(OSError):
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(entries), encoding="utf-8")
            draft.replace(record)
        finally:
            draft.unlink(missing_ok=True)
