"""Whether the variant that runs has streams, and what runs it can run them."""

from __future__ import annotations

from edgesdk.backends.protocol import StepBackend
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.stack_record import STREAMS, StreamsRecord
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.stream_part import TOP
from edgesdk.dispatch.exit_steps import exit_cost
from edgesdk.errors import DeviceError, UnsupportedOption


def find_streams(variant: Variant) -> StreamsRecord | None:
    """What a variant has of streams."""
    return next((stack.streams for stack in variant.stacks if stack.name == MAIN), None)


def has_streams(variant: Variant, steps: StepBackend | None) -> bool:
    """Whether a variant has streams, and what runs it can run them."""
    return _runs(steps) and find_streams(variant) is not None


def require_streams(bundle: Bundle, variant: Variant, steps: StepBackend | None) -> StreamsRecord:
    """The streams of the variant that runs.

    Args:
        bundle: whose.
        variant: that runs.
        steps: what runs it; None for a backend that keeps its cells.

    Raises:
        UnsupportedOption: it has none.
        DeviceError: what runs it cannot run them.
    """
    record = find_streams(variant)
    if record is None:
        raise UnsupportedOption(
            f"{bundle.manifest.name} has no streams in {variant.name}, which draft 'streams' needs; "
            "convert it with --streams, or draft with 'lookup'"
        )
    if not _runs(steps):
        raise DeviceError(f"what runs {variant.name} cannot run its streams; load it with backend litert")
    return record


def stream_share(bundle: Bundle, variant: Variant, steps: StepBackend | None) -> float:
    """How much of a token's work a row of a stream costs: 1 where it runs through all blocks.

    Args:
        bundle: whose.
        variant: that runs, with streams.
        steps: what runs it.
    """
    record = find_streams(variant)
    if record is None or steps is None or TOP not in steps.contracts:
        return 1.0
    cost = exit_cost(bundle.manifest.decoder_of(variant))
    whole = sum(cost.blocks) + cost.head
    return (whole - cost.of(len(cost.blocks) - record.layers)) / whole


def _runs(steps: StepBackend | None) -> bool:
    return steps is not None and any(port.name == STREAMS for port in steps.contracts[MAIN].inputs)
