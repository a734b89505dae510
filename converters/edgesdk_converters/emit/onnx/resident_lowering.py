"""Lowers each operation of the graph to ONNX Runtime's operators with dynamic shapes.

Values of the step graph get a batch axis: (T, E) becomes (batch, sequence, E), and heads stay inside
the last axis, as GroupQueryAttention wants them. So splitting, merging and reordering heads cost
nothing, and rotation is left to the attention operator wherever its kernel can do it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from edgesdk_converters.emit.onnx.matrices import block_scales, kernel_block, pack_blocks
from edgesdk_converters.emit.onnx.resident_adapters import lower_low_rank
from edgesdk_converters.emit.onnx.resident_attention import lower_attend, rotate_before
from edgesdk_converters.emit.onnx.resident_state import CONTRIB, ResidentLowering
from edgesdk_converters.emit.onnx.two_rows import two_rows
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Node

LOGITS_FROM = "logits_from"
_TO_THE_END = 2**62


def lower_node(state: ResidentLowering, node: Node) -> None:
    """Appends the operators of one node and records the names of its outputs."""
    LOWERINGS[type(node.op)](state, node)
    for name in node.outputs:
        state.names.setdefault(name, name)


def _blocks(state: ResidentLowering, name: str) -> tuple[str, str, dict[str, int]]:
    """A quantised matrix: names of its integers and scales, and the attributes `bits`, `block_size`."""
    weights = state.weights
    rows, columns = weights.shape(name)
    scheme = weights.scheme(name)
    if scheme is None:
        raise ValueError(f"{name!r} is not quantised")
    block = kernel_block(scheme, columns)
    count = -(-columns // block)
    integers = state.model.constant(
        f"{name}.integers",
        "UINT8",
        (rows, count, block * scheme.bits // 8),
        lambda: pack_blocks(weights.quantised(name), block),
    )
    # Most scales by block are float16 numbers; kernels take float32, so ONNX Runtime folds the cast at load.
    half = scheme.block is not None and weights.recipe.float_type == "float16" and weights.half_scales(name)
    scales = state.model.constant(
        f"{name}.scales",
        "FLOAT16" if half else "FLOAT",
        (rows, count),
        lambda: block_scales(weights.quantised(name), block).astype(np.float16 if half else np.float32),
    )
    scales = state.widen(scales) if half else scales
    return integers, scales, {"bits": scheme.bits, "block_size": block}


def _matrix(state: ResidentLowering, name: str) -> tuple[str, bool]:
    """A floating point matrix (O, I) as stored, and whether that is float16."""
    half = state.weights.recipe.float_type == "float16"
    kind = np.float16 if half else np.float32
    stored = state.model.constant(
        name,
        "FLOAT16" if half else "FLOAT",
        state.weights.shape(name),
        lambda: state.weights.load(name).astype(kind),
    )
    return stored, half


def _embed(state: ResidentLowering, node: Node) -> None:
    table, out = node.inputs[1], node.outputs[0]
    model, tokens = state.model, state.use(node.inputs[0])
    if state.weights.scheme(table) is None:
        stored, half = _matrix(state, table)
        rows = model.node("Gather", [stored, tokens], [f"{out}.half" if half else out])
        if half:
            model.node("Cast", [rows], [out], {"to": 1})
        return
    # The head's matrix as it stands, (V, B, bytes): giving the rows their shape afterwards is free,
    # while a reshaped constant would be a second copy in memory.
    integers, scales, attributes = _blocks(state, table)
    V, E = state.weights.shape(table)
    count = -(-E // attributes["block_size"])
    scales = state.reshape(scales, f"{table}.scales.3d", [V, count, 1])
    rows = model.node(
        "GatherBlockQuantized",
        [integers, tokens, scales],
        [f"{out}.blocks"],
        {"gather_axis": 0, "quantize_axis": 2, **attributes},
        CONTRIB,
    )
    width = count * attributes["block_size"]
    if width == E:
        state.reshape(rows, out, [0, 0, E])
        return
    rows = state.reshape(rows, f"{out}.padded", [0, 0, width])
    bounds = [model.integers([start]) for start in (0, E, 2)]
    model.node("Slice", [rows, *bounds], [out])


def _take_rows(state: ResidentLowering, node: Node) -> None:
    bounds = [LOGITS_FROM, state.model.integers([_TO_THE_END]), state.model.integers([1])]
    state.model.node("Slice", [state.use(node.inputs[0]), *bounds], [node.outputs[0]])


def _rms_norm(state: ResidentLowering, node: Node) -> None:
    op, out = cast(ops.RmsNorm, node.op), node.outputs[0]
    if node.inputs[0] in state.rotations:
        turned = rotate_before(state, node.inputs[0], int(state.graph.values[node.inputs[0]].shape[1]))
        state.names[node.inputs[0]] = turned
    shape = state.graph.values[out].shape
    size = int(shape[-1])
    if len(node.inputs) == 2:
        weight = state.vector(node.inputs[1])
    else:
        weight = state.model.constant(f"ones.{size}", "FLOAT", [size], lambda: np.ones(size, np.float32))
    # Registered by ONNX Runtime in ONNX's own domain.
    attributes: dict[str, int | float | str] = {"axis": -1, "epsilon": op.eps, "stash_type": 1}
    parts = state.take_sum(node.inputs[0]) if len(shape) == 2 else None
    if parts is not None:  # the residual stream: its sum and its norm in one pass
        outputs = [out, "", "", node.inputs[0]]
        eps = {"epsilon": op.eps}
        state.model.node("SkipSimplifiedLayerNormalization", [*parts, weight], outputs, eps, CONTRIB)
        return
    x = state.use(node.inputs[0])
    if len(shape) == 2:
        state.model.node("SimplifiedLayerNormalization", [x, weight], [out], attributes)
        return
    heads = state.reshape(x, f"{out}.heads", [0, 0, int(shape[1]), size])
    y = state.model.node("SimplifiedLayerNormalization", [heads, weight], [f"{out}.normed"], attributes)
    state.reshape(y, out, [0, 0, int(shape[1]) * size])


def _linear(state: ResidentLowering, node: Node) -> None:
    weight, out = node.inputs[1], node.outputs[0]
    x = state.use(node.inputs[0])
    bias = [state.vector(name) for name in node.inputs[2:]]
    rows, columns = state.weights.shape(weight)
    if state.weights.scheme(weight) is not None:
        integers, scales, attributes = _blocks(state, weight)
        attributes |= {"N": rows, "K": columns, "accuracy_level": state.accuracy_level}

        def multiply(x: str, out: str, *bias: str) -> str:
            # Slots 3 and 4, zero points and an obsolete index, stay empty.
            inputs = [x, integers, scales, *(["", "", *bias] if bias else [])]
            return state.model.node("MatMulNBits", inputs, [out], attributes, CONTRIB)

        # A graph for steps of every size has products of one kind; `check_resident` has seen to that.
        if state.accuracy_level and state.weights.recipe.exact(weight, 1):
            y = f"{out}.product" if bias else out
            two_rows(state, x, y, columns, attributes["block_size"], multiply)
            if bias:
                state.model.node("Add", [y, bias[0]], [out])
            return
        multiply(x, out, *bias)
        return
    matrix, half = _matrix(state, weight)
    matrix = state.widen(matrix) if half else matrix
    product = f"{out}.product" if bias else out
    state.model.node("FusedMatMul", [x, matrix], [product], {"transB": 1}, CONTRIB)
    if bias:
        state.model.node("Add", [product, bias[0]], [out])


def _split(state: ResidentLowering, node: Node) -> None:
    state.defer_split(node)


def _same(state: ResidentLowering, node: Node) -> None:
    state.names[node.outputs[0]] = state.names[node.inputs[0]]


def _rotate(state: ResidentLowering, node: Node) -> None:
    state.rotations[node.outputs[0]] = (node.inputs[0], cast(ops.Rotate, node.op).rotary)


def _attend(state: ResidentLowering, node: Node) -> None:
    lower_attend(state, node)


def _activate(state: ResidentLowering, node: Node) -> None:
    x, out = state.use(node.inputs[0]), node.outputs[0]
    if cast(ops.Activate, node.op).kind == "gelu_tanh":
        state.model.node("Gelu", [x], [out], {"approximate": "tanh"})
        return
    gate = state.model.node("Sigmoid", [x], [f"{out}.gate"])
    state.model.node("Mul", [x, gate], [out])


def _add(state: ResidentLowering, node: Node) -> None:
    state.defer_sum(node)


def _multiply(state: ResidentLowering, node: Node) -> None:
    state.model.node("Mul", [state.use(name) for name in node.inputs], node.outputs)


def _scale(state: ResidentLowering, node: Node) -> None:
    factor = state.model.number(cast(ops.Scale, node.op).factor)
    state.model.node("Mul", [state.use(node.inputs[0]), factor], node.outputs)


def _scale_columns(state: ResidentLowering, node: Node) -> None:
    state.model.node("Mul", [state.use(node.inputs[0]), state.vector(node.inputs[1])], node.outputs)


def _block_sums(state: ResidentLowering, node: Node) -> None:
    out, block = node.outputs[0], cast(ops.BlockSums, node.op).block
    blocks = state.reshape(state.use(node.inputs[0]), f"{out}.blocks", [0, 0, -1, block])
    axes = state.model.integers([-1])
    state.model.node("ReduceSum", [blocks, axes], [out], {"keepdims": 0})


def _softcap(state: ResidentLowering, node: Node) -> None:
    out, cap = node.outputs[0], state.model.number(cast(ops.Softcap, node.op).cap)
    small = state.model.node("Div", [state.use(node.inputs[0]), cap], [f"{out}.small"])
    bent = state.model.node("Tanh", [small], [f"{out}.bent"])
    state.model.node("Mul", [bent, cap], [out])


LOWERINGS: Mapping[type[ops.Op], Callable[[ResidentLowering, Node], None]] = {
    ops.Embed: _embed,
    ops.TakeRows: _take_rows,
    ops.RmsNorm: _rms_norm,
    ops.Linear: _linear,
    ops.LowRank: lower_low_rank,
    ops.Split: _split,
    ops.SplitHeads: _same,
    ops.MergeHeads: _same,
    ops.HeadsFirst: _same,
    ops.Rotate: _rotate,
    ops.Attend: _attend,
    ops.Activate: _activate,
    ops.Add: _add,
    ops.Multiply: _multiply,
    ops.Scale: _scale,
    ops.ScaleColumns: _scale_columns,
    ops.BlockSums: _block_sums,
    ops.Softcap: _softcap,
}
