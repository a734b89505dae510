"""Decodes GGUF's block types into integers, scales and minimums, without loss.

Layouts as in ggml (ggml-common.h, `block_q4_0` and so on); of two 4-bit integers in a byte the low half
belongs to the earlier columns. The simple types have a float16 scale for every 32 columns. The K-quants have
one, and one for minimums, for every 256, and 6-bit (Q6_K: 8-bit) factors of it for every 32 (16): products
that are no float16 numbers. IQ4_NL's 4 bits choose one of 16 integers of 8 bits, MXFP4's one of 16 small
floats, which are halves of integers; its scales are powers of two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks

BLOCK = 32
BLOCK_TYPES = {
    kind.name: kind
    for kind in (
        BlockType("Q4_0", 4, BLOCK, minimums=False),
        BlockType("Q4_1", 4, BLOCK, minimums=True),
        BlockType("Q5_0", 8, BLOCK, minimums=False),
        BlockType("Q5_1", 8, BLOCK, minimums=True),
        BlockType("Q8_0", 8, BLOCK, minimums=False),
        BlockType("IQ4_NL", 8, BLOCK, minimums=False),
        BlockType("MXFP4", 8, BLOCK, minimums=False, half_scales=False),
        BlockType("Q4_K", 4, BLOCK, minimums=True, half_scales=False),
        BlockType("Q5_K", 8, BLOCK, minimums=True, half_scales=False),
        BlockType("Q6_K", 8, 16, minimums=False, half_scales=False),
    )
}
_MIDDLE = 8  # of 4-bit integers that count from zero
_CHOICES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)
"""IQ4_NL's integers (ggml-common.h, `kvalues_iq4nl`)."""
_HALVES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)
"""Twice the 4-bit floats of OCP Microscaling Formats 1.0 (E2M1)."""

Raw = NDArray[np.uint8]
Floats = NDArray[np.float32]


def decode_blocks(raw: Raw, kind: BlockType) -> StoredBlocks:
    """Decodes rows of blocks.

    Args:
        raw: (O, bytes) uint8, whole rows.
        kind: one of `BLOCK_TYPES`.

    Returns:
        The matrix; scales and minimums may be anything that the file's numbers can be.
    """
    values, scales, minimums = _DECODERS[kind.name](np.ascontiguousarray(raw))
    rows = len(raw)
    return StoredBlocks(
        kind,
        np.ascontiguousarray(values.reshape(rows, -1)),
        np.ascontiguousarray(scales.reshape(rows, -1)),
        None if minimums is None else minimums.reshape(rows, -1),
    )


Parts = tuple[NDArray[np.int8], Floats, Floats | None]


def _q4_0(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 18)
    return _halves(packed[:, 2:]).view(np.int8) - np.int8(_MIDDLE), _float16(packed[:, :2]), None


def _q4_1(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 20)
    scales = _float16(packed[:, :2])
    # d u + m = d (u - 8) + (m + 8 d)
    minimums = _float16(packed[:, 2:4]) + np.float32(_MIDDLE) * scales
    return _halves(packed[:, 4:]).view(np.int8) - np.int8(_MIDDLE), scales, minimums


def _q5_0(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 22)
    return _five_bits(packed[:, 2:]).view(np.int8) - np.int8(16), _float16(packed[:, :2]), None


def _q5_1(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 24)
    scales = _float16(packed[:, :2])
    minimums = _float16(packed[:, 2:4]) + np.float32(16) * scales
    return _five_bits(packed[:, 4:]).view(np.int8) - np.int8(16), scales, minimums


def _q8_0(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 34)
    return np.ascontiguousarray(packed[:, 2:]).view(np.int8), _float16(packed[:, :2]), None


def _iq4_nl(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 18)
    return _CHOICES[_halves(packed[:, 2:])], _float16(packed[:, :2]), None


def _mxfp4(raw: Raw) -> Parts:
    from gguf.quants import MXFP4

    packed = raw.reshape(-1, 17)
    return _HALVES[_halves(packed[:, 1:])], MXFP4.e8m0_to_fp32_half(packed[:, :1]), None


def _q4_k(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 144)
    return _around(_low_bits(packed[:, 16:]), 8, *_products(packed))


def _q5_k(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 176)
    high = packed[:, 16:48, None] >> np.arange(8, dtype=np.uint8) & np.uint8(1)  # (N, 32, 8)
    return _around(_low_bits(packed[:, 48:]) | high.swapaxes(1, 2) << np.uint8(4), 16, *_products(packed))


def _q6_k(raw: Raw) -> Parts:
    packed = raw.reshape(-1, 210)
    # Bytes hold columns of 64 in their low halves and the next 64 in their high ones; two more bits come four
    # runs of 32 to a byte.
    low = np.stack([packed[:, :128] & 0xF, packed[:, :128] >> 4]).reshape(2, -1, 2, 64)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = packed[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & np.uint8(3)  # (N, 2, 4, 32)
    values = low.transpose(1, 2, 0, 3).reshape(-1, 2, 4, 32) | high << np.uint8(4)
    factors = np.ascontiguousarray(packed[:, 192:208]).view(np.int8).astype(np.float32)
    return values.view(np.int8) - np.int8(32), _float16(packed[:, 208:]) * factors, None


def _halves(body: Raw) -> Raw:
    """The 4-bit integers of each block, low halves first: (N, 2 bytes)."""
    return np.concatenate([body & 0xF, body >> 4], axis=1)


def _five_bits(body: Raw) -> Raw:
    """The 5-bit integers of each block, whose highest bits come first, a bit for each column: (N, 32)."""
    high = np.unpackbits(np.ascontiguousarray(body[:, :4]), axis=1, bitorder="little")
    return _halves(body[:, 4:]) | high << np.uint8(4)


def _low_bits(body: Raw) -> Raw:
    """The lower 4 bits of a K-quant: (N, 8, 32), of every 32 bytes the low halves first."""
    parts = body.reshape(-1, 4, 1, BLOCK)
    return np.concatenate([parts & 0xF, parts >> 4], axis=2).reshape(-1, 8, BLOCK)


def _products(packed: Raw) -> tuple[Floats, Floats]:
    """Scales and what is subtracted, of each 32 columns of Q4_K and Q5_K: (N, 8) each."""
    from gguf.quants import Q4_K

    factors, offsets = Q4_K.get_scale_min(np.ascontiguousarray(packed[:, 4:16]))
    scales = _float16(packed[:, :2]) * factors.astype(np.float32)
    return scales, _float16(packed[:, 2:4]) * offsets.astype(np.float32)


def _around(values: Raw, middle: int, scales: Floats, offsets: Floats) -> Parts:
    """Integers that count from zero, as symmetric ones: d q - m = d (q - c) + (c d - m)."""
    return values.view(np.int8) - np.int8(middle), scales, np.float32(middle) * scales - offsets


def _float16(pairs: Raw) -> Floats:
    """(N, 1) float32 of two bytes each."""
    return np.ascontiguousarray(pairs).view("<f2").astype(np.float32)


_DECODERS: dict[str, Callable[[Raw], Parts]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "IQ4_NL": _iq4_nl,
    "MXFP4": _mxfp4,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
