"""Products with large matrices, and rows picked from them, that read a few rows at a time.

Matrices in float32, a table of words above all, would be the most that an evaluation of a checkpoint holds;
rows that a cache holds are also multiplied where they have just been made. A product by parts may have other
last bits than one of the whole, as BLAS adds up otherwise for other shapes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.weights import Array, Weights, has_rows, load_rows

_READ_AT_ONCE = 1 << 21
"""Numbers, 8 MB in float32: smaller arrays than glibc maps anew each time."""


def reads_by_rows(weights: Weights, name: str) -> bool:
    """Whether a weight is a matrix that had better not be read as a whole."""
    if not has_rows(weights, name):
        return False
    shape = weights.shape(name)
    return len(shape) == 2 and math.prod(shape) > _READ_AT_ONCE


def product(x: Array, weights: Weights, name: str) -> Array:
    """`x @ weight.T`.

    Args:
        x: (T, I) float32.
        weights: have rows of the weight.
        name: of an (O, I) weight.

    Returns:
        (T, O) float32.
    """
    count, columns = weights.shape(name)
    rows = max(1, _READ_AT_ONCE // columns)
    out = np.empty((len(x), count), np.float32)
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        np.matmul(x, load_rows(weights, name, start, stop).T, out=out[:, start:stop])
    return out


def picked_rows(weights: Weights, name: str, picks: NDArray[np.integer]) -> Array:
    """`weight[picks]`, each row read once.

    Args:
        weights: have rows of the weight.
        name: of an (O, I) weight.
        picks: (T,) rows.

    Returns:
        (T, I) float32.
    """
    out = np.empty((len(picks), weights.shape(name)[1]), np.float32)
    for row in np.unique(picks).tolist():
        out[picks == row] = load_rows(weights, name, row, row + 1)
    return out
