"""What a load did and why: every fallback is written here, so none is silent."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True)
class Receipt:
    """What runs a model, and what was refused on the way.

    Attributes:
        bundle: name of the model.
        variant: variant in use.
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
