"""Cells in int8: how a signature takes them, and how attention multiplies by their scales.

DEQUANTIZE with the scale 1 turns integers into floats of the same value, which XNNPACK does; CAST would
fall back to slower kernels (docs/decisions/0009). The real scales differ from cell to cell, so they
multiply what has a column per cell: scores for keys, shares for values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converters.emit.litert.model_file import Quantisation
from converters.graph.graph import Value

if TYPE_CHECKING:
    from converters.emit.litert.lowering import Lowering

_DEQUANTIZE_INT8 = 2  # the version of the operator that takes int8


def int8_cells(state: Lowering, value: Value) -> None:
    """Adds the inputs of one layer's keys or values: integers (K, S, D), and scales (K, 1, S).

    The graph's value becomes the integers as float32; `state.cell_scales` has the scales.
    """
    K, S, D = state.shape(value.shape)
    subgraph = state.subgraph
    unit = Quantisation(np.ones(1, np.float32))
    stored = subgraph.input(value.name, (K, S, D), "int8", unit)
    wide = subgraph.tensor(f"{value.name}.float32", (K, S, D))
    subgraph.op("DEQUANTIZE", _DEQUANTIZE_INT8, [stored], [wide], state.schema.DequantizeOptionsT())
    state.index[value.name] = wide
    state.cell_scales[value.name] = subgraph.input(value.name.replace("_cache.", "_scale."), (K, 1, S))


def scale_columns(state: Lowering, cells: str, x: int, name: str, shape: tuple[int, ...]) -> int:
    """Multiplies (K, rows, S) by the scales of the cells named `cells`; float32 cells have none."""
    scales = state.cell_scales.get(cells)
    return x if scales is None else state.binary("MUL", x, scales, name, shape)


def scaled_cells(state: Lowering, cells: str, x: int, name: str, shape: tuple[int, ...]) -> int:
    """The numbers that cells (K, S, D) stand for, for those who join them with others."""
    scales = state.cell_scales.get(cells)
    if scales is None:
        return x
    column = state.reshape(scales, f"{name}.column", (*shape[:2], 1))
    return state.binary("MUL", x, column, name, shape)
