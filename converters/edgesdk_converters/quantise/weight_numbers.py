"""Digests of what weights are once a recipe has stored them, whatever file holds them.

Two variants with the same digest compute with the same numbers, so one can go on with the other's cells; how
a target packs them, or what precision its kernels compute in, has no part in it. It knows arrays, not files.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.palette_tensor import PaletteTensor, StoredTensor


class DigestedWeights(Protocol):
    """Weights that can tell the digest of each."""

    def digest(self, name: str) -> bytes:
        """Digest of one weight as it is stored."""


def weight_numbers(program: Program, weights: DigestedWeights) -> str:
    """Digest (hex) of all weights that a program reads, with their names.

    Args:
        program: as emitted.
        weights: its weights under a recipe; those that nobody has asked for yet are made.
    """
    whole = hashlib.sha256()
    for name in sorted(value.name for value in program.graph.weights):
        whole.update(name.encode() + b"\0" + weights.digest(name))
    return whole.hexdigest()


def digest_floats(values: NDArray[np.floating]) -> bytes:
    """Digest of a weight that stays floating point: its shape, type and numbers."""
    return _digest(str(values.dtype), values)


def digest_stored(tensor: StoredTensor) -> bytes:
    """Digest of integers with their scales, or of indices with their palettes; of their shapes, too."""
    if isinstance(tensor, PaletteTensor):
        return _digest("palette", tensor.indices, tensor.palettes)
    return _digest("integers", tensor.values, tensor.scales)


def _digest(kind: str, *arrays: NDArray[np.generic]) -> bytes:
    found = hashlib.sha256(kind.encode())
    for array in arrays:
        found.update(repr(array.shape).encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.digest()
