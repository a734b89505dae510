"""Checks the table of contents of a Core ML package: it may name the model and its weights, nothing else.

Core ML loads what `Manifest.json` names, so a path in it that leads elsewhere would reach files that the
bundle does not list.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from edgesdk.bundle.read_json import read_json
from edgesdk.errors import BundleError

_LIMIT_BYTES = 1 << 16
_PATHS = frozenset(("com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights"))
_KEYS = frozenset(("fileFormatVersion", "itemInfoEntries", "rootModelIdentifier"))
_ENTRY_KEYS = frozenset(("author", "description", "name", "path"))


def check_package(path: Path) -> None:
    """Checks a `Manifest.json`.

    Raises:
        BundleError: it cannot be read, has an unknown key, or names a path that no package of edgesdk has.
    """
    document = read_json(path, path.name, _LIMIT_BYTES)
    entries = document.get("itemInfoEntries") if isinstance(document, dict) else None
    fits = isinstance(document, dict) and isinstance(entries, dict) and _KEYS.issuperset(document)
    if not fits:
        raise BundleError(f"{path.name} is no table of contents of a package; convert the bundle again")
    for entry in cast("dict[str, object]", entries).values():
        if not isinstance(entry, dict) or not _ENTRY_KEYS.issuperset(entry):
            raise BundleError(f"{path.name} has an entry that no package of edgesdk has; convert it again")
        place = entry.get("path")
        if not isinstance(place, str) or place not in _PATHS:
            expected = ", ".join(sorted(_PATHS))
            raise BundleError(f"{path.name} names {str(place)[:80]!r}, expected one of {expected}")
