"""Which names a bundle may give its files: relative, forward slashes, inside the bundle.

Reader and writer share this rule, so that what is written can be read on every platform. It does
not touch the file system.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.errors import BundleError

_LONGEST = 240  # leaves room for a folder in front of it under the path limits of Windows


def check_name(name: str) -> str:
    """Returns `name` when a bundle may hold a file of that name.

    Raises:
        BundleError: it is absolute, leaves the bundle, is not in its plain form, or is the manifest.
    """
    parts = name.split("/")
    plain = str(PurePosixPath(name)) == name and len(name) <= _LONGEST and name.isprintable()
    if not plain or ".." in parts or "." in parts or any(c in name for c in '\\:*?"<>|') or name[:1] == "/":
        raise BundleError(
            f"{name[:80]!r} is not a file name a bundle may hold; expected a relative path such as "
            "'variants/NAME/model.tflite'"
        )
    if name == MANIFEST_NAME:
        raise BundleError(f"{MANIFEST_NAME} cannot list or replace itself")
    return name
