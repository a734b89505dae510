"""What gated terms of low rank are multiplied by, as matrices: for targets that have products alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.ops import LowRank
from edgesdk_converters.graph.weights import Weights


def gate_columns(op: LowRank) -> NDArray[np.float32]:
    """(columns of h, G): 1 where a column is multiplied by a gate; gates @ its transpose repeats them."""
    gates = len(op.parts[0].ranks)
    return np.eye(gates, dtype=np.float32)[list(op.columns)]


def written_rows(op: LowRank, weights: Weights, names: Sequence[str]) -> NDArray[np.float32]:
    """(O, columns of h): the parts' matrices B on a diagonal of blocks, zeros beside them.

    Args:
        op: the operation.
        weights: where they come from.
        names: of B, for each part that has a rank.
    """
    whole = np.zeros((sum(part.width for part in op.parts), len(op.columns)), np.float32)
    row = column = 0
    left = iter(names)
    for part in op.parts:
        if part.rank:
            whole[row : row + part.width, column : column + part.rank] = weights.load(next(left))
        row, column = row + part.width, column + part.rank
    return whole
