"""Decodes the three common packings of 4-bit groups in safetensors, without loss.

Eight integers from 0 to 15 lie in a 32-bit word, the first in its lowest bits; I inputs, O outputs, G groups:

- GPTQ (AutoGPTQ, GPTQModel): words (I / 8, O) along the inputs, zeros (G, O / 8) less one, scales (G, O).
- AWQ (AutoAWQ, version `gemm`): words (I, O / 8) and zeros (G, O / 8) along the outputs, whose eight columns
  lie in the order 0 2 4 6 1 3 5 7; scales (G, O).
- MLX (`affine`): words (O, I / 8) along the inputs, scales and biases (O, G).

A weight is `scale (q - zero)`, for MLX `scale q + bias`. It does not know files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]

PER_WORD = 8
MIDDLE = 8  # of integers that count from zero
_AWQ_PLACES = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # where each of eight columns lies in its word


def decode_gptq(words: Words, zeros: NDArray[np.int16], scales: Floats, kind: BlockType) -> StoredBlocks:
    """Words (I / 8, O), zeros and scales (G, O)."""
    values = _along_rows(words).T
    return _blocks(values, zeros.T, scales.T, kind)


def gptq_zeros(words: Words, *, less_one: bool) -> NDArray[np.int16]:
    """Zeros (G, O) of words (G, O / 8), which the common form of the format keeps less one."""
    return (_along_columns(words) + int(less_one)).astype(np.int16)


def decode_awq(words: Words, zeros: NDArray[np.int16], scales: Floats, kind: BlockType) -> StoredBlocks:
    """Words (I, O / 8), zeros and scales (G, O)."""
    return _blocks(_awq_columns(words).T, zeros.T, scales.T, kind)


def awq_zeros(words: Words) -> NDArray[np.int16]:
    """Zeros (G, O) of words (G, O / 8)."""
    return _awq_columns(words).astype(np.int16)


def decode_mlx(words: Words, scales: Floats, biases: Floats, kind: BlockType) -> StoredBlocks:
    """Words (O, I / 8), scales and biases (O, G)."""
    values = _along_columns(words).view(np.int8) - np.int8(MIDDLE)
    # s q + b = s (q - 8) + (b + 8 s)
    return StoredBlocks(kind, values, scales, biases + np.float32(MIDDLE) * scales)


def _blocks(
    values: NDArray[np.uint8], zeros: NDArray[np.int16], scales: Floats, kind: BlockType
) -> StoredBlocks:
    """Values (O, I), zeros and scales (O, G)."""
    centred = np.ascontiguousarray(values).view(np.int8) - np.int8(MIDDLE)
    # s (q - z) = s (q - 8) + s (8 - z)
    minimums = (MIDDLE - zeros).astype(np.float32) * scales if kind.minimums else None
    return StoredBlocks(kind, centred, np.ascontiguousarray(scales), minimums)


def _along_columns(words: Words) -> NDArray[np.uint8]:
    """Words (N, M) to integers (N, 8 M)."""
    out = np.empty((words.shape[0], words.shape[1], PER_WORD), np.uint8)
    for place in range(PER_WORD):
        out[:, :, place] = (words >> np.uint32(4 * place)) & np.uint32(0xF)
    return out.reshape(words.shape[0], -1)


def _along_rows(words: Words) -> NDArray[np.uint8]:
    """Words (N, M) to integers (8 N, M)."""
    out = np.empty((words.shape[0], PER_WORD, words.shape[1]), np.uint8)
    for place in range(PER_WORD):
        out[:, place] = (words >> np.uint32(4 * place)) & np.uint32(0xF)
    return out.reshape(-1, words.shape[1])


def _awq_columns(words: Words) -> NDArray[np.uint8]:
    """Words (N, M) to integers (N, 8 M), columns in their order."""
    stored = _along_columns(words).reshape(*words.shape, PER_WORD)
    return np.ascontiguousarray(stored[:, :, _AWQ_PLACES]).reshape(words.shape[0], -1)
