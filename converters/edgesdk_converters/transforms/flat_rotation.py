"""A rotation that spreads every channel over all others, and is applied in two small products.

R = diag(s) (A x B), with random signs s and the Kronecker product of two orthogonal matrices whose numbers
all have about the same size: Sylvester's Hadamard matrices, and where a size is no power of two the matrix of
the Hartley transform for its odd part (entries (cos + sin) / sqrt(n); Bracewell, The Discrete Hartley
Transform, 1983). A product with R then costs |A| + |B| instead of |A| |B| for each number. Random signs
before a Hadamard matrix are what QuaRot rotates with (arXiv 2404.00456, section 3). It knows no graph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.weights import Array

_NUMBERS_AT_ONCE = 1 << 20  # what a product leaves behind it stays small beside a large matrix


class FlatRotation:
    """R (E, E), orthogonal; x R for rows x."""

    def __init__(self, size: int, seed: int) -> None:
        """Draws the signs.

        Args:
            size: E, at least 1.
            seed: of the signs.
        """
        halves = [2**i for i in range(size.bit_length()) if size % 2**i == 0]
        inner = min(halves, key=lambda half: half + size // half)
        self._signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size)
        self._factors = _flat(size // inner), _flat(inner)
        self._single = tuple(factor.astype(np.float32) for factor in self._factors)

    def matrix(self) -> NDArray[np.float64]:
        """R itself."""
        found: NDArray[np.float64] = self._signs[:, None] * np.kron(*self._factors)
        return found

    def turn(self, values: Array) -> Array:
        """X R: (.., E) float32, a new array."""
        outer, inner = self._single
        rows = values.reshape(-1, len(outer), len(inner))
        turned = np.empty(rows.shape, np.float32)
        signs = self._signs.astype(np.float32).reshape(rows.shape[1:])
        step = max(1, _NUMBERS_AT_ONCE // signs.size)
        for start in range(0, len(rows), step):
            piece = (rows[start : start + step] * signs) @ inner
            np.matmul(outer, piece, out=turned[start : start + step])  # symmetric, as both are
        return turned.reshape(values.shape)

    def turn_back(self, values: Array) -> Array:
        """R' X: (E, ..) float32, a new array; of a matrix whose output joins what is turned."""
        if values.ndim == 1:
            return self.turn(values)
        outer, inner = self._single
        turned = np.empty(values.shape, np.float32)
        signs = self._signs.astype(np.float32)[:, None]
        step = max(1, _NUMBERS_AT_ONCE // len(values))
        for start in range(0, values.shape[1], step):
            piece = values[:, start : start + step] * signs
            width = piece.shape[1]
            halfway = inner @ piece.reshape(len(outer), len(inner), width)
            turned[:, start : start + step] = (outer @ halfway.reshape(len(outer), -1)).reshape(-1, width)
        return turned


def _flat(size: int) -> NDArray[np.floating]:
    """A symmetric orthogonal matrix (n, n) without large numbers."""
    odd = size
    while odd % 2 == 0:
        odd //= 2
    angle = np.outer(np.arange(odd), np.arange(odd)) % odd * (2 * np.pi / odd)
    found: NDArray[np.floating] = (np.cos(angle) + np.sin(angle)) / odd**0.5
    while len(found) < size:
        found = np.kron(found, np.array([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5)
    return found
