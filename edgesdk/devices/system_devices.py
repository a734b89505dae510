"""Graphics cards and NPUs that Linux knows, whether or not a runtime reaches them.

Read from sysfs: `class/drm` and `class/accel`. Other systems give no list here; their runtimes do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.manifest import DeviceClass

_VENDORS: Mapping[str, str] = {
    "0x1002": "AMD",
    "0x106b": "Apple",
    "0x10de": "NVIDIA",
    "0x13b5": "Arm",
    "0x1414": "Microsoft",
    "0x17cb": "Qualcomm",
    "0x8086": "Intel",
}


@dataclass(frozen=True)
class Adapter:
    """One device of the system.

    Attributes:
        device: `gpu` or `npu`.
        name: the driver's name for it and its PCI or device-tree id.
        vendor: who made it; empty where it is unknown.
        driver: kernel driver, with its version where it has one.
        memory_bytes: of its own memory; None where the driver does not say.
    """

    device: DeviceClass
    name: str
    vendor: str
    driver: str | None
    memory_bytes: int | None


def list_adapters(root: Path = Path("/sys")) -> tuple[Adapter, ...]:
    """Reads sysfs.

    Args:
        root: where sysfs is mounted; another folder in tests.
    """
    found = []
    for device, folders in (("gpu", "class/drm/card*"), ("npu", "class/accel/accel*")):
        for folder in sorted(root.glob(folders)):
            if re.fullmatch(r"(?:card|accel)\d+", folder.name):
                kind: DeviceClass = "gpu" if device == "gpu" else "npu"
                found.append(_read(kind, folder / "device", root))
    return tuple(found)


def driver_versions(root: Path = Path("/sys")) -> dict[str, str]:
    """Version by name of the kernel drivers of all adapters: part of what a measurement depends on."""
    return {adapter.name: adapter.driver for adapter in list_adapters(root) if adapter.driver}


def _read(device: DeviceClass, folder: Path, root: Path) -> Adapter:
    vendor, number = _text(folder / "vendor"), _text(folder / "device")
    link = folder / "driver"
    driver = link.resolve().name if link.exists() else None
    version = _text(root / "module" / driver / "version") if driver else ""
    memory = _text(folder / "mem_info_vram_total")
    return Adapter(
        device=device,
        name=" ".join(part for part in (driver, number) if part) or folder.parent.name,
        vendor=_VENDORS.get(vendor, vendor),
        driver=" ".join(part for part in (driver, version) if part) or None,
        memory_bytes=int(memory) if re.fullmatch(r"\d{1,15}", memory) else None,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()[:200]
    except OSError:
        return ""
