"""Rounding to nearest with symmetric scales, optionally with searched clipping.

The search tries scales below the largest magnitude and keeps, per block, the one with the least
squared error (the grid search of OmniQuant's and llama.cpp's kind, without learning).
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.recipe import Scheme

# Shares of the widest scale; at 7/8 the largest number becomes -8, not 7.
CLIP_STEPS = (1.0, 0.96, 0.92, 0.88, 0.875, *(0.84 - 0.04 * i for i in range(8)))
_BLOCK_SCALES = np.float32(2.0**-14), np.float32(65280)  # float16's least normal number, the most of both
_NUMBERS_AT_ONCE = 1 << 16  # in a core's cache; from memory it takes four times as long


def round_to_nearest(weight: NDArray[np.float32], scheme: Scheme) -> QuantisedTensor:
    """Quantises a matrix.

    Args:
        weight: (O, I) float32.
        scheme: bits, block and algorithm; a block must divide I.

    Returns:
        Integers and scales.
    """
    rows, columns = weight.shape
    block = scheme.block or columns
    values = np.empty((rows, columns), np.int8)
    scales = np.empty((rows, columns // block), np.float32)
    at_once = max(1, _NUMBERS_AT_ONCE // max(columns, 1))
    for start in range(0, rows, at_once):
        part = weight[start : start + at_once]
        blocks = part.reshape(len(part), -1, block)
        chosen = (
            _search_scale(blocks, scheme) if scheme.algorithm == "clip_search" else _max_scale(blocks, scheme)
        )
        scales[start : start + len(part)] = chosen
        values[start : start + len(part)] = _round(blocks, chosen, scheme.bits).reshape(part.shape)
    return QuantisedTensor(values, scales, scheme.bits, scheme.block)


def integer_range(bits: int) -> tuple[int, int]:
    """Least and largest integer: -127..127, as LiteRT's per-channel kernels expect, or -8..7."""
    top = 2 ** (bits - 1) - 1
    return (-top if bits == 8 else -top - 1), top


def _max_scale(blocks: NDArray[np.float32], scheme: Scheme) -> NDArray[np.float32]:
    largest = np.abs(blocks).max(axis=-1)
    return storable_scale(largest / np.float32(2 ** (scheme.bits - 1) - 1), scheme)


def _search_scale(blocks: NDArray[np.float32], scheme: Scheme) -> NDArray[np.float32]:
    widest = best = _max_scale(blocks, scheme)
    least = _error(blocks, best, scheme.bits)
    # Scales stay positive (XNNPACK refuses others), so the extra step of int4 below zero only helps
    # blocks whose largest value is negative; the search finds those by itself.
    for share in CLIP_STEPS[1:]:
        scale = storable_scale(widest * np.float32(share), scheme)
        error = _error(blocks, scale, scheme.bits)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best


def storable_scale(scale: NDArray[np.float32], scheme: Scheme) -> NDArray[np.float32]:
    """As scales are used: never zero, which all-zero blocks divide by; bfloat16 numbers for blocks.

    LiteRT stores those as float16 and its kernels multiply with the nearest bfloat16 (ai-edge-litert 2.3.0,
    `findings/litert_blockwise_scales.sh`), so a number that is both is the same in the file, in the kernel
    and on every other target. Beyond the largest of them (numbers of half a million) blocks are clipped.
    """
    if not scheme.block:
        return np.maximum(scale, np.float32(1e-12)).astype(np.float32)
    return np.clip(scale, *_BLOCK_SCALES).astype(ml_dtypes.bfloat16).astype(np.float32)


def _round(blocks: NDArray[np.float32], scale: NDArray[np.float32], bits: int) -> NDArray[np.int8]:
    low, top = integer_range(bits)
    rounded = blocks / scale[..., None]
    np.rint(rounded, out=rounded)
    return np.clip(rounded, low, top, out=rounded).astype(np.int8)


def _error(blocks: NDArray[np.float32], scale: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    difference = _round(blocks, scale, bits) * scale[..., None] - blocks
    squared: NDArray[np.float32] = np.einsum("...i,...i->...", difference, difference)
    return squared
