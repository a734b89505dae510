"""The arrays of one step size, as every backend that runs them in place allocates them."""

from __future__ import annotations

from edgesdk.backends.aligned_array import aligned_floats, aligned_halves, aligned_ints
from edgesdk.backends.protocol import StepBuffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape


def allocate_buffers(spec: DecoderSpec, shape: StepShape, cell_type: CellType = "float32") -> StepBuffers:
    """Zeroed, aligned arrays for one size of a model's step; a window mask where a layer has a window.

    New keys and values are float32, but float16 for cells of that type.
    """
    T, S, R = shape.tokens, shape.cells, shape.rows
    new = (len(spec.layers), 2, spec.kv_heads, T, spec.head_size)
    return StepBuffers(
        tokens=aligned_ints(T),
        positions=aligned_ints(T),
        mask=aligned_floats(T, S + T),
        window_mask=None if spec.window is None else aligned_floats(T, S + T),
        rows=aligned_ints(R),
        logits=aligned_floats(R, spec.logits_size),
        kv_new=aligned_halves(*new) if cell_type == "float16" else aligned_floats(*new),
    )
