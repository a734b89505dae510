"""Lowers gated terms of low rank: a product with B for all parts at once, and gates repeated once a step."""

from __future__ import annotations

from typing import cast

from edgesdk_converters.emit.gated_columns import gate_columns, written_rows
from edgesdk_converters.emit.litert.constants import float_matrix
from edgesdk_converters.emit.litert.diagonal import diagonal_matrix
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import LowRank

_VERSION = 5  # of FULLY_CONNECTED: the first with keep_num_dims


def lower_low_rank(state: Lowering, node: Node, x: list[int], shape: tuple[int, ...]) -> int:
    """y + B (h * gates'), (M, O)."""
    op, out = cast(LowRank, node.op), node.outputs[0]
    y, h, gates = x[:3]
    inner = (shape[0], len(op.columns))
    gated = state.binary("MUL", h, _repeated(state, op, gates, inner), f"{out}.gated", inner)
    added = _product(state, gated, _written(state, op, node.inputs[3:]), f"{out}.added", shape)
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


def _product(state: Lowering, x: int, matrix: int, name: str, shape: tuple[int, ...]) -> int:
    options = state.schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    return state.emit("FULLY_CONNECTED", [x, matrix, -1], name, shape, options, _VERSION)
