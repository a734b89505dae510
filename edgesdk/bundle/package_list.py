"""The packages of a variant that a size limit has cut into several: a file beside them, its entry.

    {"packages": ["part_1.mlpackage", "part_2.mlpackage"]}

They run in this order; what one gives under a name, later ones take under that name. It does not know
what is in them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edgesdk.bundle.names import check_name
from edgesdk.bundle.records import from_json
from edgesdk.errors import BundleError

PACKAGE_LIST_NAME = "packages.json"
_LIMIT_BYTES = 1 << 16
_MOST_PACKAGES = 256


@dataclass(frozen=True)
class PackageList:
    """Folders of packages, in the order in which they run."""

    packages: tuple[str, ...]


def write_package_list(path: Path, packages: PackageList) -> None:
    """Writes the list."""
    path.write_text(json.dumps(asdict(packages)) + "\n", encoding="utf-8")


def read_package_list(path: Path) -> PackageList:
    """Reads a list.

    Raises:
        BundleError: it cannot be read, or names no packages, too many, or one that a bundle may not hold.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_LIMIT_BYTES + 1)
        document = json.loads(text) if len(text) <= _LIMIT_BYTES else None
    except OSError as error:
        raise BundleError(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} is not valid JSON; copy or convert the bundle again") from error
    found = from_json(PackageList, document, path.name)
    if not 0 < len(found.packages) <= _MOST_PACKAGES or len(set(found.packages)) != len(found.packages):
        raise BundleError(
            f"{path.name} names {len(found.packages)} packages, expected 1 to {_MOST_PACKAGES}, each once; "
            "copy or convert the bundle again"
        )
    for name in found.packages:
        check_name(name)
    return found
