"""Matrices on a diagonal of blocks as LiteRT stores them sparse: the blocks alone, behind DENSIFY.

The tensor's `sparsity` (schema.fbs, SparsityParameters) says that rows go in blocks, and which blocks of
columns each of those has; the buffer has these blocks, row by row. XNNPACK makes the whole matrix once, when
the file is opened, so that a step reads what it would of a file with zeros in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgesdk_converters.emit.litert.model_file import Subgraph
from edgesdk_converters.graph.ops import LowRankPart
from edgesdk_converters.graph.weights import Array
from edgesdk_converters.quantise.recipe import FloatType

_DENSE, _SPARSE = 0, 1  # DimensionType
_INT32 = 1  # SparseIndexVector


class Diagonal:
    """How the blocks of some parts lie.

    Attributes:
        shape: of the whole matrix, (O, N).
        block: (rows, columns) of one block.
        filled: for each block of rows the blocks of columns that are stored, in order.
    """

    def __init__(self, parts: Sequence[LowRankPart]) -> None:
        """Finds the largest blocks that the parts are made of."""
        self.shape = sum(part.width for part in parts), sum(part.rank for part in parts)
        self.block = math.gcd(*(part.width for part in parts)), math.gcd(*(part.rank for part in parts))
        self.filled: list[range] = []
        column = 0
        for part in parts:
            end = column + part.rank
            band = range(column // self.block[1], end // self.block[1])
            self.filled += [band] * (part.width // self.block[0])
            column = end

    def values(self, parts: Sequence[Array]) -> Array:
        """Elements in the order of the file.

        Args:
            parts: (width, rank) of each part that has a rank.

        Returns:
            (elements,), row by row within a block, block by block along each block of rows.
        """
        rows, columns = self.block
        blocks = [
            part.reshape(-1, rows, part.shape[1] // columns, columns).transpose(0, 2, 1, 3).reshape(-1)
            for part in parts
        ]
        return np.concatenate(blocks)


def diagonal_matrix(
    subgraph: Subgraph,
    float_type: FloatType,
    names: Sequence[str],
    parts: Sequence[LowRankPart],
    load: Callable[[str], Array],
) -> int:
    """Adds matrices on a diagonal; the index of the tensor that is the whole one in float32.

    Args:
        subgraph: where it is used.
        float_type: of the recipe.
        names: of the matrices, for each part that has a rank.
        parts: rows and columns of each.
        load: gives a matrix in float32 by its name.
    """
    lies, name = Diagonal(parts), "+".join(names)
    dtype, kind = ("FLOAT16", np.float16) if float_type == "float16" else ("FLOAT32", np.float32)
    stored = subgraph.constant(
        name, lies.shape, dtype, lambda: lies.values([load(each) for each in names]).astype(kind)
    )
    subgraph.tensors[stored].sparsity = _sparsity(subgraph, lies)  # type: ignore[attr-defined]
    whole = subgraph.tensor(f"{name}.whole", lies.shape, dtype)
    schema = subgraph.model.schema
    subgraph.op("DENSIFY", 1, [stored], [whole], schema.DensifyOptionsT())
    if float_type == "float32":
        return whole
    wide = subgraph.tensor(f"{name}.float32", lies.shape)
    subgraph.op("DEQUANTIZE", 3, [whole], [wide], schema.DequantizeOptionsT())
    return wide


def _sparsity(subgraph: Subgraph, lies: Diagonal) -> object:
    """Blocks of rows, the blocks of columns that each has, then rows and columns within a block."""
    schema = subgraph.model.schema
    found = schema.SparsityParametersT()
    found.traversalOrder = np.arange(4, dtype=np.int32)
    found.blockMap = np.arange(2, dtype=np.int32)
    dimensions = []
    for size in (len(lies.filled), None, *lies.block):
        each = schema.DimensionMetadataT()
        each.format = _SPARSE if size is None else _DENSE
        if size is not None:
            each.denseSize = size
        dimensions.append(each)
    sparse = dimensions[1]
    ends = np.cumsum([0, *map(len, lies.filled)])
    indices = [block for band in lies.filled for block in band]
    sparse.arraySegmentsType = sparse.arrayIndicesType = _INT32
    sparse.arraySegments, sparse.arrayIndices = (_vector(schema, v) for v in (ends, indices))
    found.dimMetadata = dimensions
    return found


def _vector(schema: object, values: Sequence[int]) -> object:
    vector = schema.Int32VectorT()  # type: ignore[attr-defined]
    vector.values = np.asarray(values, np.int32)
    return vector
