"""What was measured of one way to run a bundle: plain records, kept in a file and shown in receipts."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.bundle.manifest import DeviceClass


@dataclass(frozen=True)
class PhaseFigures:
    """Figures of one phase, of the best round: other work on the machine only takes away.

    Attributes:
        tokens_per_s: speed.
        cpu_ms_per_token: processor time of this process, all threads.
        joules_per_token: of the whole package, where the system lets it be read; else None.
    """

    tokens_per_s: float
    cpu_ms_per_token: float
    joules_per_token: float | None


@dataclass(frozen=True)
class Measurement:
    """One candidate, measured in a process of its own, or why it was not.

    Attributes:
        variant: of the bundle.
        backend: that ran it.
        device: class of devices that it was asked to use.
        provider: delegate or execution provider; empty without figures.
        host_cells: whether the host owns its cells, so that phases can be split and faults survived.
        load_ms: to open it.
        peak_rss_bytes: most memory of its process once it is open, for a prompt of 512 tokens over 640 cells;
            None where the system does not say, or where that would have taken too long.
        prefill: of a short prompt; None when it was not measured.
        decode: one token at a time; None likewise.
        batch: several tokens in one step, as of several answers at once; None where it has no such step.
        reason: why there are no figures; None when there are.
    """

    variant: str
    backend: str
    device: DeviceClass
    provider: str = ""
    host_cells: bool = False
    load_ms: float | None = None
    peak_rss_bytes: int | None = None
    prefill: PhaseFigures | None = None
    decode: PhaseFigures | None = None
    batch: PhaseFigures | None = None
    reason: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Names of variant, backend and device."""
        return self.variant, self.backend, self.device
