"""The arrays of one step size, as every backend that runs them in place allocates them."""

from __future__ import annotations

from edgesdk.backends.aligned_array import aligned_floats, aligned_ints
from edgesdk.backends.protocol import StepBuffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import StepShape


def allocate_buffers(spec: DecoderSpec, shape: StepShape) -> StepBuffers:
    """Zeroed, aligned arrays for one size of a model's step; a window mask where a layer has a window."""
    T, S, R = shape.tokens, shape.cells, shape.rows
    return StepBuffers(
        tokens=aligned_ints(T),
        positions=aligned_ints(T),
        mask=aligned_floats(T, S + T),
        window_mask=None if spec.window is None else aligned_floats(T, S + T),
        rows=aligned_ints(R),
        logits=aligned_floats(R, spec.logits_size),
        kv_new=aligned_floats(len(spec.layers), 2, spec.kv_heads, T, spec.head_size),
    )
