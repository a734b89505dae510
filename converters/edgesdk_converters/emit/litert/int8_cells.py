"""Cells in int8: how a signature takes them, and the numbers that they stand for.

DEQUANTIZE with the scale 1 turns integers into floats of the same value, which XNNPACK does; CAST would
fall back to slower kernels (docs/decisions/0009). The real scales differ from cell to cell, so they are
multiplied in afterwards.
"""

from __future__ import annotations

import numpy as np

from edgesdk.bundle.step_names import SCALE, CellName
from edgesdk_converters.emit.litert.model_file import Quantisation
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.graph.graph import Value

_DEQUANTIZE_INT8 = 2  # the version of the operator that takes int8


def int8_cells(state: Lowering, value: Value, cell: CellName) -> None:
    """Adds the inputs of one layer's keys or values: integers (K, S, D), and scales (K, 1, S).

    The graph's value is the integers; `state.cell_scales` has the scales.
    """
    K, S, D = state.shape(value.shape)
    subgraph = state.subgraph
    unit = Quantisation(np.ones(1, np.float32))
    state.index[value.name] = subgraph.input(value.name, (K, S, D), "int8", unit)
    state.cell_scales[value.name] = subgraph.input(str(cell._replace(kind=SCALE)), (K, 1, S))


def cell_numbers(state: Lowering, cells: str, x: int, shape: tuple[int, ...]) -> int:
    """The numbers that integers (K, S, D) stand for, made where they are used, layer by layer.

    Made where the signature begins, those of all layers would be in memory at once; so they would where a
    product reads what DEQUANTIZE gives, without the scales between them (docs/decisions/0009).
    """
    scales = state.cell_scales.get(cells)
    if scales is None:
        return x
    wide = state.subgraph.tensor(f"{cells}.float32", shape)
    state.subgraph.op("DEQUANTIZE", _DEQUANTIZE_INT8, [x], [wide], state.schema.DequantizeOptionsT())
    column = state.reshape(scales, f"{cells}.column", (*shape[:2], 1))
    return state.binary("MUL", wide, column, f"{cells}.numbers", shape)
