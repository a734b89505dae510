"""Brings a receipt up to date with what happened since the load: what changed, and what runs now."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.backends.protocol import SequenceBackend
from edgesdk.devices.receipt import Phase, Receipt
from edgesdk.dispatch.split_steps import SplitStepBackend
from edgesdk.dispatch.succession import Guarded
from edgesdk.kv.step_model import StepModel


def live_receipt(receipt: Receipt, model: SequenceBackend) -> Receipt:
    """The receipt as it stands now; the very same object while nothing has changed.

    Args:
        receipt: of the load.
        model: what makes its sequences.
    """
    backend: object = model.backend if isinstance(model, StepModel) else model
    parts = {"prefill": backend, "decode": backend}
    if isinstance(backend, SplitStepBackend):
        parts = {"prefill": backend.prefill, "decode": backend.decode}
    watched = {phase: part for phase, part in parts.items() if isinstance(part, Guarded)}
    unique = {id(part): part for part in watched.values()}
    incidents = tuple(incident for part in unique.values() for incident in part.incidents)
    if not incidents:
        return receipt
    before = {phase.phase: phase.runner for phase in receipt.phases}
    now = {**before, **{phase: part.runner for phase, part in watched.items()}}
    decode = now["decode"]
    threads = [part.threads for part in unique.values() if part.threads is not None]
    moved = decode != before.get("decode")
    return replace(
        receipt,
        variant=decode.variant,
        backend=decode.backend,
        device=decode.device,
        provider=decode.provider,
        # What was said of the one that failed does not hold for its successor.
        accelerated_share=None if moved else receipt.accelerated_share,
        weight_cache=None if moved else receipt.weight_cache,
        # With split phases, both sides follow one governor.
        threads=min(threads, default=receipt.threads),
        phases=tuple(Phase(phase, runner) for phase, runner in now.items()),
        incidents=incidents,
    )
