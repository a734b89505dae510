"""Packs int4 values as both LiteRT and ONNX store them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pack_int4(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two signed values per byte in row-major order, the first in the low half; an odd last one alone."""
    flat: NDArray[np.uint8] = values.reshape(-1).view(np.uint8) & np.uint8(0xF)
    if flat.size % 2:
        flat = np.concatenate([flat, np.zeros(1, np.uint8)])
    packed: NDArray[np.uint8] = flat[0::2] | (flat[1::2] << np.uint8(4))
    return packed
