"""Lowers gated terms of low rank: a product with B for all parts at once, and gates repeated once a step.

B in integers is multiplied like any int8 matrix, by rows that are rounded on a grid of their own: a row whose
gates are 0 is 0 on it, and so is what it adds.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from edgesdk_converters.emit.gated_columns import (
    gate_columns,
    in_integers,
    written_integers,
    written_rows,
    written_scales,
    written_span,
)
from edgesdk_converters.emit.litert.constants import float_matrix
from edgesdk_converters.emit.litert.diagonal import diagonal_matrix
from edgesdk_converters.emit.litert.model_file import Quantisation
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import LowRank

_VERSION = 5  # of FULLY_CONNECTED: the first with keep_num_dims
_SCALED_VERSION = 12  # the first with scales of rows


def lower_low_rank(state: Lowering, node: Node, x: list[int], shape: tuple[int, ...]) -> int:
    """y + B (h * gates'), (M, O)."""
    op, out = cast(LowRank, node.op), node.outputs[0]
    y, h, gates = x[:3]
    inner = (shape[0], len(op.columns))
    gated = state.binary("MUL", h, _repeated(state, op, gates, inner), f"{out}.gated", inner)
    names = node.inputs[3:]
    if in_integers(state.weights, names):
        added = _integer_product(state, op, names, gated, f"{out}.added", shape)
    else:
        added = _product(state, gated, _written(state, op, names), f"{out}.added", shape)
    return state.binary("ADD", y, added, out, shape)


def _repeated(state: Lowering, op: LowRank, gates: int, shape: tuple[int, ...]) -> int:
    """Gates (M, G) as often as their ranks, (M, columns of h); one gate is broadcast as it is."""
    columns = op.columns
    if len(op.parts[0].ranks) == 1:
        return gates
    key = (gates, columns)
    if key not in state.repeated_gates:
        name = f"gates.{','.join(map(str, columns))}"
        matrix = state.subgraph.constant(
            name, (len(columns), len(op.parts[0].ranks)), "FLOAT32", lambda: gate_columns(op)
        )
        made = f"{name}.repeated.{len(state.repeated_gates)}"
        state.repeated_gates[key] = _product(state, gates, matrix, made, shape)
    return state.repeated_gates[key]


def _written(state: Lowering, op: LowRank, names: tuple[str, ...]) -> int:
    """B of all parts as the recipe stores floating point numbers."""
    weights, name = state.weights, "+".join(names)
    if state.channel_scales and len(op.parts) > 1:  # not in files for runtimes of other kinds
        return diagonal_matrix(state.subgraph, weights.recipe.float_type, names, op.parts, weights.load)
    shape = (sum(part.width for part in op.parts), len(op.columns))
    kind = weights.recipe.float_type
    return float_matrix(state.subgraph, kind, name, shape, lambda: written_rows(op, weights, names))


def _integer_product(
    state: Lowering, op: LowRank, names: tuple[str, ...], x: int, name: str, shape: tuple[int, ...]
) -> int:
    """The product with B of all parts in int8.

    Columns that no part adds to are padded where they lie before or behind all others; files for runtimes of
    other kinds have zeros there, and scales that are multiplied with afterwards.
    """
    weights, key, inside = state.weights, "+".join(names), state.channel_scales
    start, stop = written_span(op) if inside else (0, shape[1])
    scales = written_scales(op, weights, names)[start:stop]
    matrix = state.subgraph.constant(
        key,
        (stop - start, len(op.columns)),
        "INT8",
        lambda: written_integers(op, weights, names)[start:stop],
        Quantisation(scales if inside else np.ones(1, np.float32)),
    )
    if not inside:
        rows = state.subgraph.constant(f"{key}.scales", shape[1:], "FLOAT32", lambda: scales)
        unscaled = _product(state, x, matrix, f"{name}.unscaled", shape, integers=True)
        return state.binary("MUL", unscaled, rows, name, shape)
    if stop - start == shape[1]:
        return _product(state, x, matrix, name, shape, _SCALED_VERSION, integers=True)
    written = (shape[0], stop - start)
    made = _product(state, x, matrix, f"{name}.written", written, _SCALED_VERSION, integers=True)
    return state.pad_last(made, name, shape, start)


def _product(
    state: Lowering,
    x: int,
    matrix: int,
    name: str,
    shape: tuple[int, ...],
    version: int = _VERSION,
    *,
    integers: bool = False,
) -> int:
    options = state.schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    options.asymmetricQuantizeInputs = integers
    return state.emit("FULLY_CONNECTED", [x, matrix, -1], name, shape, options, version)
