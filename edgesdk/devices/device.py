"""What discovery finds: devices as providers reach them, and what each backend can do with them."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.bundle.manifest import DeviceClass


@dataclass(frozen=True)
class Device:
    """One device as one provider reaches it; a device that two reach is two rows.

    Attributes:
        device: `cpu`, `gpu` or `npu`.
        name: as the provider or the system calls it; empty where neither does.
        vendor: who made it; empty where nobody says.
        provider: delegate or execution provider; `-` for one that nothing installed reaches.
        package: distribution that brings the provider; `-` likewise.
        version: of the package; None when it is not installed.
        driver: version of the driver or plugin; None where it does not say.
        memory_bytes: of the device; None where nobody says.
        usable: whether the provider answered, and ran something where it could be tried.
        reason: why it is not usable; None when it is.
    """

    device: DeviceClass
    name: str
    vendor: str
    provider: str
    package: str
    version: str | None
    driver: str | None
    memory_bytes: int | None
    usable: bool
    reason: str | None


@dataclass(frozen=True)
class BackendRow:
    """One backend on one class of devices.

    Attributes:
        backend: its name; `-` for a class of devices that no backend serves.
        device: `cpu`, `gpu` or `npu`.
        package: distribution that it needs; `-` where there is no backend.
        version: of the package; None when it is not installed.
        providers: delegates or execution providers by which it reaches usable devices of this class.
        usable: whether there is at least one.
        reason: why not; None when there is.
    """

    backend: str
    device: DeviceClass
    package: str
    version: str | None
    providers: tuple[str, ...]
    usable: bool
    reason: str | None
