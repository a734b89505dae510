"""What gated terms of low rank are multiplied by, as matrices: for targets that have products alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.ops import LowRank
from edgesdk_converters.graph.weights import Weights
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights


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
    for name, rows, columns in _blocks(op, names):
        whole[rows, columns] = weights.load(name)
    return whole


def in_integers(weights: QuantisedWeights, names: Sequence[str]) -> bool:
    """Whether every B is stored in int8 with one scale a row."""
    schemes = [weights.scheme(name) for name in names]
    return all(scheme is not None and scheme.bits == 8 and scheme.block is None for scheme in schemes)


def written_integers(op: LowRank, weights: QuantisedWeights, names: Sequence[str]) -> NDArray[np.int8]:
    """`written_rows` as integers."""
    whole = np.zeros((sum(part.width for part in op.parts), len(op.columns)), np.int8)
    for name, rows, columns in _blocks(op, names):
        whole[rows, columns] = weights.quantised(name).values
    return whole


def written_scales(op: LowRank, weights: QuantisedWeights, names: Sequence[str]) -> NDArray[np.float32]:
    """(O,): scales of the rows of `written_integers`, 1 where a row is zeros."""
    scales = np.ones(sum(part.width for part in op.parts), np.float32)
    for name, rows, _ in _blocks(op, names):
        scales[rows] = weights.quantised(name).scales[:, 0]
    return scales


def written_span(op: LowRank) -> tuple[int, int]:
    """The first row of `written_rows` that a part with a rank has, and the one behind the last."""
    ends = np.cumsum([part.width for part in op.parts]).tolist()
    filled = [place for place, part in enumerate(op.parts) if part.rank]
    return ends[filled[0]] - op.parts[filled[0]].width, ends[filled[-1]]


def _blocks(op: LowRank, names: Sequence[str]) -> Iterator[tuple[str, slice, slice]]:
    """Each B with its rows and columns of the whole."""
    row = column = 0
    left = iter(names)
    for part in op.parts:
        if part.rank:
            yield next(left), slice(row, row + part.width), slice(column, column + part.rank)
        row, column = row + part.width, column + part.rank
