"""Drafts of a smaller bundle, whose tokens are those of the bundle that runs, or a part of them."""

from __future__ import annotations

from pathlib import Path

from edgesdk.backends.registry import find_backends
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.shelf import find
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.open_candidate import OpenedCandidate, open_candidate
from edgesdk.drafts.model_drafts import ModelDrafts
from edgesdk.drafts.token_bridge import bridge_tokens
from edgesdk.errors import DeviceError, MissingExtra
from edgesdk.kv.step_runner import StepRunner


def open_bundle_drafts(bundle: Bundle, path: str | Path, *, threads: int) -> ModelDrafts:
    """Opens a bundle on the CPU to draft for another.

    Args:
        bundle: that runs.
        path: folder of the bundle that drafts, or its name on the shelf.
        threads: CPU threads.

    Raises:
        UnsupportedOption: its tokens are others.
        BundleError: there is none of that name, or it is damaged.
        DeviceError: nothing here runs it with cells that the host owns.
    """
    other = open_bundle(find(path).path)
    bridge = bridge_tokens(bundle, other)
    opened = _open_first(other, threads)
    steps = opened.step_backend
    assert steps is not None  # _open_first sees to it
    variant = opened.candidate.variant
    runner = StepRunner(steps, other.manifest.decoder_of(variant), variant.context, free_windows=False)
    return ModelDrafts(other.manifest.name, runner, steps.close, bridge=bridge)


def _open_first(bundle: Bundle, threads: int) -> OpenedCandidate:
    """The first candidate that opens and runs steps."""
    reasons = []
    for candidate in list_candidates(bundle, find_backends("auto"), device="cpu"):
        if not candidate.backend.host_cells:
            reasons.append(f"{candidate.backend.name} keeps its cache to itself")
            continue
        try:
            return open_candidate(bundle, candidate, threads)
        except (DeviceError, MissingExtra) as error:
            reasons.append(f"{candidate.backend.name}: {error}")
    why = "; ".join(dict.fromkeys(reasons)) or "it has no variant for them"
    raise DeviceError(f"nothing can run {bundle.manifest.name} to draft: {why}")
