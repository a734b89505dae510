"""Lowers each operation of the graph to LiteRT operators, for one signature.

Shapes follow XNNPACK, which runs nearly all of it on CPU: products are FULLY_CONNECTED (int8 and
int4 weights with activations quantised per row at run time) and BATCH_MATMUL with float operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from edgesdk_converters.emit.litert.attention import lower_attend
from edgesdk_converters.emit.litert.constants import weight_matrix
from edgesdk_converters.emit.litert.heads import (
    lower_heads_first,
    lower_rotate,
    lower_split,
    lower_split_heads,
    stated_order,
)
from edgesdk_converters.emit.litert.low_rank import lower_low_rank
from edgesdk_converters.emit.litert.model_file import Constant
from edgesdk_converters.emit.litert.packed_rows import packed_rows
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.emit.litert.two_rows import two_rows
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Node


def lower_node(state: Lowering, node: Node) -> None:
    """Appends the operators of one node and records the tensors of its outputs."""
    inputs = [stated_order(state, node, name) for name in node.inputs]
    shapes = [state.shape(state.graph.values[name].shape) for name in node.outputs]
    outputs = LOWERINGS[type(node.op)](state, node, inputs, shapes)
    state.index.update(zip(node.outputs, outputs, strict=True))


def _embed(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    table, out = node.inputs[1], node.outputs[0]
    V, (T, E) = state.weights.shape(table)[0], shapes[0]
    scheme = state.weights.scheme(table)
    if scheme is None:
        rows = state.gather(weight_matrix(state.subgraph, state.weights, table), x[0], out, (T, E))
        return [rows]
    if scheme.bits == 4:
        return [packed_rows(state, table, x[0], out, T)]
    # Rows are scaled after the look-up, so that a tied head can use the very same tensor.
    raw = weight_matrix(state.subgraph, state.weights, table)
    scales = state.subgraph.constant(
        f"{table}.scales", (V, 1), "FLOAT32", lambda: state.weights.quantised(table).scales, view=".column"
    )
    picked = state.gather(raw, x[0], f"{out}.int8", (T, E), "INT8")
    state.subgraph.tensors[picked].quantization = state.subgraph.tensors[raw].quantization  # type: ignore[attr-defined]
    values = state.emit("DEQUANTIZE", [picked], f"{out}.float", (T, E), state.schema.DequantizeOptionsT(), 2)
    scale = state.gather(scales, x[0], f"{out}.scale", (T, 1))
    return [state.binary("MUL", values, scale, out, (T, E))]


def _take_rows(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    if state.step.tokens == 1:  # there is nothing to pick
        return [x[0]]
    return [state.gather(x[0], x[1], node.outputs[0], shapes[0])]


def _rms_norm(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    op, out, shape = cast(ops.RmsNorm, node.op), node.outputs[0], state.subgraph.shape(x[0])
    one = (*shape[:-1], 1)
    squares = state.binary("MUL", x[0], x[0], f"{out}.squares", shape)
    reducer = state.schema.ReducerOptionsT()
    reducer.keepDims = True
    axis = state.subgraph.integers("axis", [len(shape) - 1])
    mean = state.emit("MEAN", [squares, axis], f"{out}.mean", one, reducer)
    shifted = state.binary("ADD", mean, state.subgraph.number(op.eps), f"{out}.shifted", one)
    inverse = state.emit("RSQRT", [shifted], f"{out}.inverse", one)
    y = state.binary("MUL", x[0], inverse, f"{out}.unit", shape)
    if len(node.inputs) == 1:
        return [y]
    weight = node.inputs[1]
    constant = _vector(state, weight, lambda: state.weights.load(weight))
    return [state.binary("MUL", y, constant, out, shape)]


def _linear(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    weight, out, shape = node.inputs[1], node.outputs[0], shapes[0]
    bias = -1
    if len(node.inputs) == 3:
        bias = _vector(state, node.inputs[2], lambda: state.weights.load(node.inputs[2]))
    scheme = state.weights.scheme(weight)
    options = state.schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    options.asymmetricQuantizeInputs = scheme is not None
    inside = state.channel_scales
    matrix = weight_matrix(state.subgraph, state.weights, weight, channel_scales=inside)
    outside = scheme is not None and scheme.bits == 8 and not inside
    # Versions of FULLY_CONNECTED: 5 has keep_num_dims, 12 scales per channel, 13 blockwise int4.
    version = 5 if scheme is None or outside else 13 if scheme.block else 12
    exact = scheme is not None and state.weights.recipe.exact(weight, state.step.tokens)
    if not exact and not outside:
        return [state.emit("FULLY_CONNECTED", [x[0], matrix, bias], out, shape, options, version)]
    # What is left to do, in order: each makes the next one's input, and the last has the node's name.
    names = [f"{out}.unscaled"] * outside + [f"{out}.product"] * (bias >= 0) + [out]
    if exact:
        y = two_rows(state, x[0], matrix, names.pop(0), shape, options, version)
    else:
        y = state.emit("FULLY_CONNECTED", [x[0], matrix, -1], names.pop(0), shape, options, version)
    if outside:
        scales = _vector(state, f"{weight}.scales", lambda: state.weights.quantised(weight).scales[:, 0])
        y = state.binary("MUL", y, scales, names.pop(0), shape)
    return [y if bias < 0 else state.binary("ADD", y, bias, out, shape)]


def _row_products(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    options = state.schema.BatchMatMulOptionsT()
    options.adjY = True
    return [state.emit("BATCH_MATMUL", x, node.outputs[0], shapes[0], options)]


def _vector(state: Lowering, name: str, data: Constant) -> int:
    size = state.weights.shape(name.removesuffix(".scales"))[0]
    return state.subgraph.constant(name, (size,), "FLOAT32", data)


def _low_rank(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [lower_low_rank(state, node, x, shapes[0])]


def _split(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return lower_split(state, node, x[0], shapes)


def _merge_heads(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [state.reshape(x[0], node.outputs[0], shapes[0])]


def _split_heads(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [lower_split_heads(state, node, x[0], shapes[0])]


def _heads_first(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [lower_heads_first(state, node, x[0], shapes[0])]


def _rotate(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [lower_rotate(state, node, x[0])]


def _attend(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [lower_attend(state, node, x)]


def _convolve(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    op, out, shape = cast(ops.Convolve, node.op), node.outputs[0], shapes[0]
    k, E = op.kernel, shape[1]
    taps = [
        _vector(state, name, lambda name=name: state.weights.load(name))  # type: ignore[misc]
        for name in node.inputs[-k:]
    ]
    y = state.binary("MUL", x[0], taps[0], f"{out}.0", shape)
    for j in range(1, k):
        earlier = state.slice_last(x[1], f"{out}.before.{j}", shape, op.columns(j, E)[0])
        if state.step.tokens > 1:  # else there is no other new token
            options = state.schema.BatchMatMulOptionsT()
            picked = state.emit("BATCH_MATMUL", [x[1 + j], x[0]], f"{out}.picked.{j}", shape, options)
            earlier = state.binary("ADD", earlier, picked, f"{out}.earlier.{j}", shape)
        scaled = state.binary("MUL", earlier, taps[j], f"{out}.scaled.{j}", shape)
        y = state.binary("ADD", y, scaled, out if j == k - 1 else f"{out}.{j}", shape)
    return [y]


def _activate(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    out = node.outputs[0]
    if cast(ops.Activate, node.op).kind == "gelu_tanh":
        options = state.schema.GeluOptionsT()
        options.approximate = True
        return [state.emit("GELU", x, out, shapes[0], options)]
    gate = state.emit("LOGISTIC", x, f"{out}.gate", shapes[0])
    return [state.binary("MUL", x[0], gate, out, shapes[0])]


def _add(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [state.binary("ADD", x[0], x[1], node.outputs[0], shapes[0])]


def _multiply(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [state.binary("MUL", x[0], x[1], node.outputs[0], shapes[0])]


def _scale(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    factor = state.subgraph.number(cast(ops.Scale, node.op).factor)
    return [state.binary("MUL", x[0], factor, node.outputs[0], shapes[0])]


def _scale_columns(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    weight = node.inputs[1]
    factors = _vector(state, weight, lambda: state.weights.load(weight))
    return [state.binary("MUL", x[0], factors, node.outputs[0], shapes[0])]


def _block_sums(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    block, out = cast(ops.BlockSums, node.op).block, node.outputs[0]
    blocks = state.reshape(x[0], f"{out}.blocks", (*shapes[0], block))
    reducer = state.schema.ReducerOptionsT()
    return [state.emit("SUM", [blocks, state.subgraph.integers("axis", [2])], out, shapes[0], reducer)]


def _softcap(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [state.softcap(x[0], cast(ops.Softcap, node.op).cap, node.outputs[0], shapes[0])]


LOWERINGS: Mapping[type[ops.Op], Callable[[Lowering, Node, list[int], list[tuple[int, ...]]], list[int]]] = {
    ops.Embed: _embed,
    ops.TakeRows: _take_rows,
    ops.RmsNorm: _rms_norm,
    ops.Linear: _linear,
    ops.RowProducts: _row_products,
    ops.LowRank: _low_rank,
    ops.Split: _split,
    ops.SplitHeads: _split_heads,
    ops.MergeHeads: _merge_heads,
    ops.HeadsFirst: _heads_first,
    ops.Rotate: _rotate,
    ops.Attend: _attend,
    ops.Convolve: _convolve,
    ops.Activate: _activate,
    ops.Add: _add,
    ops.Multiply: _multiply,
    ops.Scale: _scale,
    ops.ScaleColumns: _scale_columns,
    ops.BlockSums: _block_sums,
    ops.Softcap: _softcap,
}
