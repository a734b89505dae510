"""Matrices on a diagonal, stored without the zeros between them: what is read is the whole matrix."""

import numpy as np
import pytest

from edgesdk_converters.emit.gated_columns import written_rows
from edgesdk_converters.emit.litert.diagonal import Diagonal
from edgesdk_converters.graph.ops import LowRank, LowRankPart

PARTS = {
    "q, k and v": ((24, (4,)), (8, (4,)), (8, (4,))),
    "other ranks": ((24, (6,)), (8, (4,)), (8, (2,))),
    "two adapters": ((16, (4, 2)), (16, (0, 3))),
    "one without": ((12, (3,)), (12, (0,)), (6, (3,))),
    "no common size": ((7, (3,)), (5, (2,))),
}


class Held:
    def __init__(self, arrays):
        self.load = arrays.__getitem__


@pytest.mark.parametrize("name", PARTS)
def test_the_blocks_make_the_whole_matrix(name):
    op = LowRank(tuple(LowRankPart(*part) for part in PARTS[name]))
    random = np.random.default_rng(0)
    arrays = {
        str(i): random.standard_normal((part.width, part.rank)).astype(np.float32)
        for i, part in enumerate(op.parts)
        if part.rank
    }
    whole = written_rows(op, Held(arrays), list(arrays))
    lies = Diagonal(op.parts)
    values = lies.values(list(arrays.values()))
    assert lies.shape == whole.shape
    assert values.size == sum(array.size for array in arrays.values())  # no zero is stored
    rows, columns = lies.block
    blocks = iter(values.reshape(-1, rows, columns))
    found = np.zeros_like(whole)
    for i, band in enumerate(lies.filled):
        for j in band:
            found[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] = next(blocks)
    assert np.array_equal(found, whole)
    assert next(blocks, None) is None
