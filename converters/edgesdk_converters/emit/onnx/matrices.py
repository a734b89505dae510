"""Quantised matrices as ONNX Runtime's block kernels store them (contrib operator MatMulNBits).

Symmetric integers become unsigned ones around the kernels' default zero point; a scale per row is
repeated for each block of the row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.recipe import Scheme

_BLOCKS = (32, 16)
"""Sizes for one scale per row. Activations are quantised in the same blocks: 32 rather than 128 halves
the error of that (SmolLM2-135M w8: KL 0.0029 against 0.0062) for a twentieth more bytes."""


def kernel_block(scheme: Scheme, columns: int) -> int:
    """Columns per block: the scheme's, or for one scale per row 32, or 16 where that divides the row.

    Rows that neither divides are padded to whole blocks of 32.
    """
    if scheme.block is not None:
        return scheme.block
    return next((block for block in _BLOCKS if columns % block == 0), 32)


def pack_blocks(tensor: QuantisedTensor, block: int) -> NDArray[np.uint8]:
    """Packs integers.

    Returns:
        (O, B, block * bits / 8) uint8 with B blocks per row; of two 4-bit values the first is low.
    """
    rows, columns = tensor.values.shape
    count = -(-columns // block)
    middle = 1 << (tensor.bits - 1)
    packed = np.full((rows, count * block), middle, np.uint8)
    # Adding in uint8 wraps to the right result: -127 is 129 there, and 129 + 128 is 1.
    np.add(tensor.values.view(np.uint8), np.uint8(middle), out=packed[:, :columns])
    if tensor.bits == 4:
        packed = packed[:, 0::2] | (packed[:, 1::2] << 4)
    return packed.reshape(rows, count, block * tensor.bits // 8)


def block_scales(tensor: QuantisedTensor, block: int) -> NDArray[np.float32]:
    """Scales of every block of every row: (O, B) float32."""
    if tensor.block is not None:
        return tensor.scales
    count = -(-tensor.values.shape[1] // block)
    return np.repeat(tensor.scales, count, axis=1)
