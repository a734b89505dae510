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
from edgesdk.bundle.read_json import read_json
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
    document = read_json(path, path.name, _LIMIT_BYTES)
    found = from_json(PackageList, document, path.name)
    if not 0 < len(found.packages) <= _MOST_PACKAGES or len(set(found.packages)) != len(found.packages):
        raise BundleError(
            f"{path.name} names {len(found.packages)} packages, expected 1 to {_MOST_PACKAGES}, each once; "
            "copy or convert the bundle again"
        )
    for name in found.packages:
        check_name(name)
    return found
