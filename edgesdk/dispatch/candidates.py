"""Every way to run a bundle: variant x backend x class of devices, and why some of them are out.

What can be said without opening anything is said here; the rest is said by the backend that opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.backends.registry import Backend
from edgesdk.bundle.manifest import DeviceClass, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.devices.device import BackendRow
from edgesdk.devices.packages import installed_version


@dataclass(frozen=True)
class Candidate:
    """One way to run a bundle.

    Attributes:
        variant: of the bundle.
        backend: opens its format.
        device: class of devices.
        refusal: why it is out; None while nothing speaks against it.
    """

    variant: Variant
    backend: Backend
    device: DeviceClass
    refusal: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Names of variant, backend and device."""
        return self.variant.name, self.backend.name, self.device

    def describe(self) -> dict[str, str | None]:
        """The names and the refusal, for documents."""
        variant, backend, device = self.key
        return {"variant": variant, "backend": backend, "device": device, "refusal": self.refusal}


def list_candidates(
    bundle: Bundle,
    backends: Sequence[Backend],
    rows: Sequence[BackendRow] = (),
    *,
    variants: Sequence[Variant] | None = None,
    device: DeviceClass | None = None,
) -> tuple[Candidate, ...]:
    """All pairs of a variant and a backend of its format, on each class of devices of the backend.

    Args:
        bundle: the bundle.
        backends: in order of preference, which is the order of the result.
        rows: what discovery says of the backends; empty to find out by opening.
        variants: to consider; all when None.
        device: only this class; all when None.
    """
    installed = {backend.package: installed_version(backend.package) for backend in backends}
    known = {(row.backend, row.device): row for row in rows}
    found = []
    for backend in backends:
        for variant in bundle.manifest.variants if variants is None else variants:
            if variant.format != backend.format:
                continue
            for kind in backend.device_classes:
                if device is not None and kind != device:
                    continue
                row = known.get((backend.name, kind))
                refusal = row.reason if row is not None and not row.usable else None
                if refusal is None and not installed[backend.package]:
                    refusal = f"the package {backend.package} is not installed"
                if refusal is None and kind not in variant.device_classes and kind != "cpu":
                    refusal = f"the variant is made for {', '.join(variant.device_classes)}"
                if refusal is None and variant.cell_type not in backend.cell_types:
                    refusal = f"{backend.name} has no {variant.cell_type} cells"
                found.append(Candidate(variant, backend, kind, refusal))
    return tuple(found)
