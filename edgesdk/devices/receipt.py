"""What a load did and why: every fallback is written here, so none is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.printable import printable
from edgesdk.devices.measurement import Measurement


@dataclass(frozen=True)
class Refusal:
    """A candidate that was preferred but not used.

    Attributes:
        backend: backend name.
        variant: variant name, or `-` when no variant of the bundle suits the backend.
        device: device name.
        reason: one line.
    """

    backend: str
    variant: str
    device: str
    reason: str

    def __str__(self) -> str:
        """The one text for it: receipts show it, `strict` raises it."""
        return f"refused: {self.backend} on {self.device} ({self.variant}): {self.reason}"


@dataclass(frozen=True)
class Runner:
    """What runs steps: names of variant, backend, device and provider."""

    variant: str
    backend: str
    device: str
    provider: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Names of variant, backend and device, as candidates have it."""
        return self.variant, self.backend, self.device

    def __str__(self) -> str:
        """As receipts show it."""
        provider = f" ({self.provider})" if self.provider else ""
        return f"{self.variant} with {self.backend} on {self.device}{provider}"


@dataclass(frozen=True)
class Phase:
    """What runs one phase of a request: `prefill` or `decode`."""

    phase: str
    runner: Runner


IncidentKind = Literal["failed", "governed", "ready"]
"""Something failed; a governor lowered or raised a limit; what was opened meanwhile is ready."""


@dataclass(frozen=True)
class Incident:
    """A change in the middle of the work.

    Attributes:
        before: what ran until then, or what could not take over.
        reason: one line.
        successor: what runs from then on; None if nothing took over.
        kind: why; what `failed` is not used again.
    """

    before: Runner
    reason: str
    successor: Runner | None
    kind: IncidentKind = "failed"

    def __str__(self) -> str:
        """As receipts show it."""
        after = "" if self.successor is None else f"; went on with {self.successor}"
        return f"{self.kind}: {self.before}: {self.reason}{after}"


@dataclass(frozen=True)
class Receipt:
    """What runs a model, and what was refused on the way.

    Attributes:
        bundle: name of the model.
        variant: variant in use; where the phases are split, the one that decodes, as in the next five.
        recipe: its quantisation recipe.
        backend: backend in use.
        device: device in use.
        provider: delegate or execution provider, e.g. `XNNPACK`, `CPUExecutionProvider`.
        accelerated_share: share of operations that run on that provider, 0 to 1; None when the
            backend cannot tell.
        threads: CPU threads.
        load_ms: time from the call to a usable model.
        weight_cache: `hit`, `built`, or None when the backend keeps none.
        integrity: how the files were checked: `hashed`, or `unchanged` since they were last hashed.
        refusals: candidates before this one, in order.
        notes: anything else the user should know, one line each.
        goal: what the choice was made for; None without a goal.
        choice: how it was made: `fixed order`, `measured now`, or `measured before`.
        phases: what runs prefill and what runs decode.
        measured: what the choice was made from, losers included.
        incidents: what changed since the load, in order.
        draft: what proposes tokens; None if nothing does.
        adapters: names of those that requests may ask for.
    """

    bundle: str
    variant: str
    recipe: str
    backend: str
    device: str
    provider: str
    accelerated_share: float | None
    threads: int
    load_ms: float
    weight_cache: str | None
    integrity: str
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    goal: str | None = None
    choice: str = "fixed order"
    phases: tuple[Phase, ...] = ()
    measured: tuple[Measurement, ...] = ()
    incidents: tuple[Incident, ...] = ()
    draft: str | None = None
    adapters: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What runs the model, in a line; before it one for everything that was refused or is notable."""
        lines = [str(refusal) for refusal in self.refusals]
        lines += [str(incident) for incident in self.incidents]
        lines += [f"note: {note}" for note in self.notes]
        if self.goal is not None:
            lines.append(f"chosen for {self.goal}, {self.choice}")
        if len({phase.runner for phase in self.phases}) > 1:
            lines += [f"{phase.phase}: {phase.runner}" for phase in self.phases]
        share = self.accelerated_share
        provider = self.provider if share is None else f"{self.provider}, {share:.0%} of operations"
        parts = [
            f"{self.bundle} {self.variant}",
            f"{self.backend} on {self.device} ({provider})",
            f"{self.threads} thread{'s' if self.threads != 1 else ''}",
            f"loaded in {self.load_ms:.0f} ms",
            f"files {self.integrity}",
        ]
        if self.weight_cache is not None:
            parts.append(f"packed weights {'found' if self.weight_cache == 'hit' else self.weight_cache}")
        if self.draft is not None:
            parts.append(f"drafts by {self.draft}")
        if self.adapters:
            parts.append(f"adapters {', '.join(self.adapters)}")
        # Names in it come from files of others: each stays one line, whatever it holds.
        return "\n".join(printable(line) for line in (*lines, "; ".join(parts)))
