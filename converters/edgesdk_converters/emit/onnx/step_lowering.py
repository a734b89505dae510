"""Lowers each operation of the graph to ONNX's own operators, for one static size of the step.

Only operators that NPU compilers take: weights stand behind DequantizeLinear (int8 per row, int4 in
blocks) and feed Gemm, which wants them as they are stored, (O, I). No operator of ONNX Runtime's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from edgesdk_converters.emit.onnx.step_attention import lower_attend
from edgesdk_converters.emit.onnx.step_state import FLOAT, StepLowering
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Node


def lower_node(state: StepLowering, node: Node) -> None:
    """Appends the operators of one node."""
    LOWERINGS[type(node.op)](state, node)


def _embed(state: StepLowering, node: Node) -> None:
    (tokens, table), out = node.inputs, node.outputs[0]
    scheme = state.weights.scheme(table)
    if scheme is None:
        half = state.weights.recipe.float_type == "float16"
        name = f"{out}.half" if half else out
        rows = state.model.node("Gather", [state.stored_matrix(table), tokens], [name])
        if half:
            state.model.node("Cast", [rows], [out], {"to": FLOAT})
        return
    if scheme.bits == 4 or scheme.block is not None:
        state.model.node("Gather", [state.matrix(table), tokens], [out])
        return
    # Rows are picked as integers: DequantizeLinear before Gather would unpack the whole table.
    picked = state.model.node("Gather", [state.integers(table), tokens], [f"{out}.int8"])
    values = state.model.node("Cast", [picked], [f"{out}.unscaled"], {"to": FLOAT})
    scales = state.model.node("Gather", [state.scales(table), tokens], [f"{out}.scales"])
    column = state.reshape(scales, f"{out}.column", (*state.sizes(state.graph.values[tokens].shape), 1))
    state.binary("Mul", values, column, out)


def _take_rows(state: StepLowering, node: Node) -> None:
    state.model.node("Gather", node.inputs, node.outputs)


def _rms_norm(state: StepLowering, node: Node) -> None:
    op, x, out = cast(ops.RmsNorm, node.op), node.inputs[0], node.outputs[0]
    weighted = len(node.inputs) == 2
    squares = state.binary("Mul", x, x, f"{out}.squares")
    axes = state.model.integers([-1])
    mean = state.model.node("ReduceMean", [squares, axes], [f"{out}.mean"])
    shifted = state.binary("Add", mean, state.number(op.eps), f"{out}.shifted")
    root = state.model.node("Sqrt", [shifted], [f"{out}.root"])
    unit = state.binary("Div", x, root, f"{out}.unit" if weighted else out)
    if weighted:
        state.binary("Mul", unit, state.vector(node.inputs[1]), out)


def _linear(state: StepLowering, node: Node) -> None:
    inputs = [node.inputs[0], state.matrix(node.inputs[1]), *(state.vector(n) for n in node.inputs[2:])]
    state.model.node("Gemm", inputs, node.outputs, {"transB": 1})


def _row_products(state: StepLowering, node: Node) -> None:
    state.model.node("Gemm", node.inputs, node.outputs, {"transB": 1})


def _low_rank(state: StepLowering, node: Node) -> None:
    op, out = cast(ops.LowRank, node.op), node.outputs[0]
    y, h, gates, *written = node.inputs
    gated = state.binary("Mul", h, state.repeated_gates(op, gates), f"{out}.gated")
    state.model.node("Gemm", [gated, state.written_rows(op, written), y], [out], {"transB": 1})


def _split(state: StepLowering, node: Node) -> None:
    sizes = state.model.integers(cast(ops.Split, node.op).sizes)
    state.model.node("Split", [node.inputs[0], sizes], node.outputs, {"axis": -1})


def _reshape(state: StepLowering, node: Node) -> None:
    out = node.outputs[0]
    state.reshape(node.inputs[0], out, state.sizes(state.graph.values[out].shape))


def _heads_first(state: StepLowering, node: Node) -> None:
    state.transpose(node.inputs[0], node.outputs[0], (1, 0, 2))


def _rotate(state: StepLowering, node: Node) -> None:
    rotary, x, out = cast(ops.Rotate, node.op).rotary, node.inputs[0], node.outputs[0]
    D, size, half = int(state.graph.values[out].shape[-1]), rotary.size, rotary.size // 2
    cos, sin = state.rotary(rotary)
    first = state.slice(x, f"{out}.first", 0, half)
    second = state.slice(x, f"{out}.second", half, size)
    straight = [state.binary("Mul", half_x, cos, f"{half_x}.cos") for half_x in (first, second)]
    crossed = [state.binary("Mul", half_x, sin, f"{half_x}.sin") for half_x in (second, first)]
    parts = [
        state.binary("Sub", straight[0], crossed[0], f"{first}.turned"),
        state.binary("Add", straight[1], crossed[1], f"{second}.turned"),
    ]
    if size < D:
        parts.append(state.slice(x, f"{out}.rest", size, D))
    state.concat(parts, out)


def _attend(state: StepLowering, node: Node) -> None:
    lower_attend(state, node)


def _convolve(state: StepLowering, node: Node) -> None:
    (x, before, *given), out = node.inputs, node.outputs[0]
    op, E = cast(ops.Convolve, node.op), int(state.graph.values[out].shape[1])
    k = op.kernel
    taps = [state.vector(name) for name in given[k - 1 :]]
    y = state.binary("Mul", x, taps[0], f"{out}.0")
    for j in range(1, k):
        earlier = state.slice(before, f"{out}.before.{j}", *op.columns(j, E))
        picked = state.model.node("MatMul", [given[j - 1], x], [f"{out}.picked.{j}"])
        both = state.binary("Add", earlier, picked, f"{out}.earlier.{j}")
        scaled = state.binary("Mul", both, taps[j], f"{out}.scaled.{j}")
        y = state.binary("Add", y, scaled, out if j == k - 1 else f"{out}.{j}")


def _activate(state: StepLowering, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    if cast(ops.Activate, node.op).kind == "gelu_tanh":
        state.model.node("Gelu", [x], [out], {"approximate": "tanh"})
        return
    gate = state.model.node("Sigmoid", [x], [f"{out}.gate"])
    state.binary("Mul", x, gate, out)


def _add(state: StepLowering, node: Node) -> None:
    state.model.node("Add", node.inputs, node.outputs)


def _multiply(state: StepLowering, node: Node) -> None:
    state.model.node("Mul", node.inputs, node.outputs)


def _scale(state: StepLowering, node: Node) -> None:
    state.binary("Mul", node.inputs[0], state.number(cast(ops.Scale, node.op).factor), node.outputs[0])


def _scale_columns(state: StepLowering, node: Node) -> None:
    state.binary("Mul", node.inputs[0], state.vector(node.inputs[1]), node.outputs[0])


def _block_sums(state: StepLowering, node: Node) -> None:
    out = node.outputs[0]
    rows, count = state.sizes(state.graph.values[out].shape)
    blocks = state.reshape(node.inputs[0], f"{out}.blocks", (rows, count, cast(ops.BlockSums, node.op).block))
    state.model.node("ReduceSum", [blocks, state.model.integers([-1])], [out], {"keepdims": 0})


def _softcap(state: StepLowering, node: Node) -> None:
    state.softcap(node.inputs[0], cast(ops.Softcap, node.op).cap, node.outputs[0])


LOWERINGS: Mapping[type[ops.Op], Callable[[StepLowering, Node], None]] = {
    ops.Embed: _embed,
    ops.TakeRows: _take_rows,
    ops.RmsNorm: _rms_norm,
    ops.Linear: _linear,
    ops.RowProducts: _row_products,
    ops.LowRank: _low_rank,
    ops.Split: _split,
    ops.SplitHeads: _reshape,
    ops.MergeHeads: _reshape,
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
