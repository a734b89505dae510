"""Matrices as LiteRT stores them: float32, float16 behind DEQUANTIZE, int8, packed int4."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgesdk_converters.emit.litert.model_file import Quantisation, Subgraph
from edgesdk_converters.emit.pack_int4 import pack_int4
from edgesdk_converters.graph.weights import Array
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import FloatType


def weight_matrix(
    subgraph: Subgraph, weights: QuantisedWeights, name: str, *, channel_scales: bool = False
) -> int:
    """Adds a matrix as a constant, once per subgraph, its bytes once per file.

    Args:
        subgraph: where it is used.
        weights: where it comes from.
        name: of the weight.
        channel_scales: whether an int8 matrix has its scales, one per row. Tensors with and without
            them share the bytes.

    Returns:
        The tensor's index: float32, int4 with its scales, int8 with its scales, or int8 with the scale 1,
        whose reader multiplies by the real scales.
    """
    shape = weights.shape(name)
    scheme = weights.scheme(name)
    if scheme is None:
        return float_matrix(subgraph, weights.recipe.float_type, name, shape, lambda: weights.load(name))
    if scheme.bits == 8:
        scales = weights.quantised(name).scales[:, 0] if channel_scales else np.ones(1, np.float32)
        view = ".channels" if channel_scales else ""
        return subgraph.constant(
            name, shape, "INT8", lambda: weights.quantised(name).values, Quantisation(scales), view
        )
    if scheme.block is None:
        quantisation = Quantisation(weights.quantised(name).scales[:, 0])
    else:
        blocks = (shape[0], shape[1] // scheme.block)
        scale_tensor = subgraph.constant(
            f"{name}.scales", blocks, "FLOAT16", lambda: weights.quantised(name).scales.astype(np.float16)
        )
        quantisation = Quantisation(block=scheme.block, block_scales=scale_tensor)
    return subgraph.constant(
        name, shape, "INT4", lambda: pack_int4(weights.quantised(name).values), quantisation
    )


def float_matrix(
    subgraph: Subgraph, float_type: FloatType, name: str, shape: tuple[int, ...], load: Callable[[], Array]
) -> int:
    """Adds a floating point matrix as a recipe stores such; the tensor's index is that of its float32.

    Args:
        subgraph: where it is used.
        float_type: of the recipe.
        name: of the constant.
        shape: of the matrix.
        load: its numbers in float32.
    """
    if float_type == "float32":
        return subgraph.constant(name, shape, "FLOAT32", load)
    stored = subgraph.constant(name, shape, "FLOAT16", lambda: load().astype(np.float16))
    wide = subgraph.tensor(f"{name}.float32", shape)
    subgraph.op("DEQUANTIZE", 3, [stored], [wide], subgraph.model.schema.DequantizeOptionsT())
    return wide
