"""Keeps measurements in the user's cache, one file for each bundle, machine and set of versions.

The key holds whatever a figure depends on: the bundle's manifest, the processor, threads, the kernel, the
drivers of graphics cards and NPUs, and the version of every package that a candidate uses. When one of them
changes there is simply no such file. A file that cannot be read costs one measurement.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.records import from_json, to_json
from edgesdk.devices.cpu import Processor
from edgesdk.devices.measurement import Measurement
from edgesdk.errors import BundleError
from edgesdk.version import read_version

_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class MeasurementFile:
    """What one file holds.

    Attributes:
        depends_on: the facts of the key, for readers.
        measured_at: seconds since 1970.
        measurements: one for each candidate.
    """

    depends_on: Mapping[str, str]
    measured_at: float
    measurements: tuple[Measurement, ...]


def key_facts(
    bundle: Bundle,
    processor: Processor,
    threads: int,
    packages: Mapping[str, str | None],
    drivers: Mapping[str, str],
) -> dict[str, str]:
    """What measurements of a bundle depend on.

    Args:
        bundle: the bundle.
        processor: of this machine.
        threads: CPU threads.
        packages: version by distribution, None where it is not installed.
        drivers: version by adapter.
    """
    try:
        manifest = (bundle.path / MANIFEST_NAME).read_bytes()
    except OSError as error:
        raise BundleError(f"{MANIFEST_NAME} of {bundle.path} cannot be read: {error.strerror}") from error
    facts = {
        "manifest": hashlib.sha256(manifest).hexdigest(),
        "edgesdk": read_version(),
        "processor": f"{processor.name} {processor.architecture} {' '.join(processor.features)}",
        "cores": " ".join(f"{group.cores}x{group.capacity}" for group in processor.groups),
        "threads": str(threads),
        "system": f"{platform.system()} {platform.release()}",
    }
    facts |= {f"package {name}": found or "not installed" for name, found in packages.items()}
    facts |= {f"driver {name}": found for name, found in drivers.items()}
    return dict(sorted(facts.items()))


def read_measurements(facts: Mapping[str, str]) -> MeasurementFile | None:
    """What was measured under these facts; None when nothing was, or it cannot be read."""
    try:
        found = from_json(MeasurementFile, read_checked(_path(facts), _LIMIT_BYTES), "measurements")
    except (OSError, BundleError):
        return None
    return found if dict(found.depends_on) == dict(facts) else None


def write_measurements(facts: Mapping[str, str], measurements: Sequence[Measurement]) -> bool:
    """Keeps measurements in place of earlier ones under the same facts.

    Returns:
        Whether they could be written; without, the next load measures again.
    """
    document = to_json(MeasurementFile(facts, time.time(), tuple(measurements)))
    try:
        write_checked(_path(facts), document)
    except OSError:
        return False
    return True


def _path(facts: Mapping[str, str]) -> Path:
    key = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / "measurements" / f"{key}.json"
