"""What a kernel with dynamic int8 activations sees: rows rounded to 256 steps, as XNNPACK does it."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.graph.evaluate import Array


def round_rows_to_int8(x: Array) -> Array:
    """Rounds each row (M, I) to int8 with a scale and a zero point of its own, and back to float32."""
    low = np.minimum(x.min(axis=-1, keepdims=True), np.float32(0))
    high = np.maximum(x.max(axis=-1, keepdims=True), np.float32(0))
    step = np.maximum((high - low) / np.float32(255), np.float32(1e-30))
    zero = np.rint(np.float32(-128) - low / step)
    rounded = np.clip(np.rint(x / step) + zero, -128, 127)
    result: Array = ((rounded - zero) * step).astype(np.float32)
    return result
