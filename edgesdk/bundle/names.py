"""Which names a bundle may give its files: relative, forward slashes, inside the bundle.

Reader and writer share this rule, so that what is written can be read on every platform. It does
not touch the file system.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.errors import BundleError

_LONGEST = 240  # leaves room for a folder in front of it under the path limits of Windows

# With any extension, in any folder ("Naming Files, Paths, and Namespaces", Win32).
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)


def is_device_name(part: str) -> bool:
    """Whether Windows takes the last part of a path for a device, as `con` or `nul.json`."""
    return _DEVICE.fullmatch(part.partition(".")[0].rstrip(" ")) is not None


def check_name(name: str) -> str:
    """Returns `name` when a bundle may hold a file of that name.

    Raises:
        BundleError: it is absolute, leaves the bundle, is not in its plain form, cannot be a file on every
            system, or is the manifest.
    """
    parts = name.split("/")
    plain = str(PurePosixPath(name)) == name and len(name) <= _LONGEST and name.isprintable()
    if not plain or ".." in parts or "." in parts or any(c in name for c in '\\:*?"<>|') or name[:1] == "/":
        raise BundleError(
            f"{name[:80]!r} is not a file name a bundle may hold; expected a relative path such as "
            "'variants/NAME/model.tflite'"
        )
    for part in parts:
        if part[-1] in ". " or is_device_name(part):
            raise BundleError(
                f"{name[:80]!r} is not a file name a bundle may hold: Windows cannot have {part[:40]!r}"
            )
    if name == MANIFEST_NAME:
        raise BundleError(f"{MANIFEST_NAME} cannot list or replace itself")
    return name
