"""Drafts of a shallow stack: another entry into the file of the variant that runs, on the same weights.

`convert --shallow-skip` writes it. It is opened as a second model of the same file: what the file holds and
what is packed from it is shared, the cells are its own.
"""

from __future__ import annotations

from edgesdk.backends.registry import find_backends
from edgesdk.bundle.manifest import DeviceClass, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.open_candidate import open_candidate
from edgesdk.drafts.model_drafts import ModelDrafts
from edgesdk.errors import DeviceError, UnsupportedOption
from edgesdk.kv.step_runner import StepRunner


def shallow_stack(bundle: Bundle, variant: Variant) -> Variant | None:
    """The shallowest stack beside a variant, in the same file; None where there is none."""
    depth = _halves(bundle, variant)
    beside = [
        other
        for other in bundle.manifest.variants
        if other.entry == variant.entry and _halves(bundle, other) < depth
    ]
    return min(beside, key=lambda other: _halves(bundle, other), default=None)


def open_stack_drafts(
    bundle: Bundle, variant: Variant, *, backend: str, device: DeviceClass, threads: int
) -> ModelDrafts:
    """Opens the shallow stack beside the variant that runs.

    Args:
        bundle: whose.
        variant: that runs.
        backend: that runs it.
        device: on which.
        threads: CPU threads.

    Raises:
        UnsupportedOption: there is no such stack.
        BundleError, DeviceError, MissingExtra: as `open_candidate`.
    """
    stack = shallow_stack(bundle, variant)
    if stack is None:
        raise UnsupportedOption(
            f"{bundle.manifest.name} has no shallow stack beside {variant.name}, which draft 'shallow' "
            "needs; convert it with --shallow-skip, or draft with 'lookup'"
        )
    (candidate,) = list_candidates(bundle, find_backends(backend), variants=[stack], device=device)
    opened = open_candidate(bundle, candidate, threads)
    steps = opened.step_backend
    if steps is None:
        opened.opened.model.close()
        raise DeviceError(f"{backend} keeps its cache to itself, so it cannot draft")
    runner = StepRunner(steps, bundle.manifest.decoder_of(stack), stack.context, free_windows=False)
    return ModelDrafts("shallow", runner, steps.close)


def _halves(bundle: Bundle, variant: Variant) -> int:
    """How many mixers and feed-forwards a variant runs."""
    blocks = bundle.manifest.decoder_of(variant).blocks
    return sum((block.mixer is not None) + (block.feed_forward is not None) for block in blocks)
