"""Decodes GGUF's simple block types into integers, scales and minimums, without loss.

Layouts as in ggml (ggml-common.h, `block_q4_0`, `block_q4_1`, `block_q8_0`): per block of 32 columns a
float16 scale d, for Q4_1 a float16 minimum m, then the integers; of two 4-bit ones in a byte, the
low half belongs to the first 16 columns. Types with scales of scales (the K-quants) are not here:
their scales are no float16 numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks

BLOCK = 32
BLOCK_TYPES = {
    kind.name: kind
    for kind in (
        BlockType("Q4_0", 4, BLOCK, minimums=False),
        BlockType("Q4_1", 4, BLOCK, minimums=True),
        BlockType("Q8_0", 8, BLOCK, minimums=False),
    )
}
_MIDDLE = 8  # of 4-bit integers that count from zero


def decode_blocks(raw: NDArray[np.uint8], kind: BlockType) -> StoredBlocks:
    """Decodes rows of blocks.

    Args:
        raw: (O, bytes) uint8, whole rows.
        kind: one of `BLOCK_TYPES`.

    Returns:
        The matrix; scales and minimums may be anything that float16 can be.
    """
    rows = len(raw)
    header = 4 if kind.minimums else 2
    packed = np.ascontiguousarray(raw).reshape(rows, -1, header + BLOCK * kind.bits // 8)
    halves = np.ascontiguousarray(packed[:, :, :header]).view("<f2").astype(np.float32)
    scales = halves[:, :, 0]
    body = packed[:, :, header:]
    if kind.bits == 8:
        return StoredBlocks(kind, np.ascontiguousarray(body).view(np.int8).reshape(rows, -1), scales, None)
    integers = np.concatenate([body & 0xF, body >> 4], axis=2).view(np.int8) - np.int8(_MIDDLE)
    # d u + m = d (u - 8) + (m + 8 d)
    minimums = halves[:, :, 1] + np.float32(_MIDDLE) * scales if kind.minimums else None
    return StoredBlocks(kind, integers.reshape(rows, -1), np.ascontiguousarray(scales), minimums)
