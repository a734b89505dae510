"""Lowers each operation of the graph to MIL operations, for one static size of the step.

Everything computes in float16, as the Neural Engine does. What that asks for is here: the RMS norm
divides by the row's largest magnitude first, because squares of the residual stream leave float16's
range (65504) from 256 on. Weights stay integers behind `constexpr_blockwise_shift_scale`, or
indices behind `constexpr_lut_to_dense`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from edgesdk_converters.emit.coreml.attention import lower_attend
from edgesdk_converters.emit.coreml.mil_package import (
    MilValue,
    core_ml_name,
)
from edgesdk_converters.emit.coreml.state import Lowering
from edgesdk_converters.emit.gated_columns import gate_columns, written_rows
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Node

Lowered = MilValue | Sequence[MilValue]

_SMALLEST_ROW = 2.0**-13
"""Rows below this magnitude are divided by it instead of by themselves: a zero row must stay zero."""


def lower_node(state: Lowering, node: Node) -> None:
    """Appends the operations of one node and records its outputs."""
    outputs = LOWERINGS[type(node.op)](state, node)
    outputs = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
    state.function.values.update(zip(map(core_ml_name, node.outputs), outputs, strict=True))


def _name(node: Node) -> str:
    return core_ml_name(node.outputs[0])


def _embed(state: Lowering, node: Node) -> Lowered:
    tokens, table = node.inputs
    return state.mb.gather(x=state.matrix(table), indices=state.value(tokens), axis=0, name=_name(node))


def _take_rows(state: Lowering, node: Node) -> Lowered:
    x = state.value(node.inputs[0])
    if state.step.tokens == 1:  # there is nothing to pick
        return x
    return state.mb.gather(x=x, indices=state.value(node.inputs[1]), axis=0, name=_name(node))


def _rms_norm(state: Lowering, node: Node) -> Lowered:
    """x / sqrt(mean(x^2) + eps), as u / sqrt(mean(u^2) + (sqrt(eps) / m)^2) with u = x / m, m = max |x|."""
    op, mb, x = cast(ops.RmsNorm, node.op), state.mb, state.value(node.inputs[0])
    largest = mb.reduce_max(x=mb.abs(x=x), axes=[-1], keep_dims=True)
    largest = mb.maximum(x=largest, y=state.number(_SMALLEST_ROW))
    unit = mb.real_div(x=x, y=largest)
    mean = mb.reduce_mean(x=mb.mul(x=unit, y=unit), axes=[-1], keep_dims=True)
    root_eps = mb.real_div(x=state.number(math.sqrt(op.eps)), y=largest)
    shifted = mb.add(x=mean, y=mb.mul(x=root_eps, y=root_eps))
    inverse = mb.rsqrt(x=shifted)
    if len(node.inputs) == 1:
        return mb.mul(x=unit, y=inverse, name=_name(node))
    return mb.mul(x=mb.mul(x=unit, y=inverse), y=state.vector(node.inputs[1]), name=_name(node))


def _linear(state: Lowering, node: Node) -> Lowered:
    x, weight = state.value(node.inputs[0]), state.matrix(node.inputs[1])
    if len(node.inputs) == 3:
        bias = state.vector(node.inputs[2])
    else:
        # Left out, coremltools would make zeros of its own, stored again for every function.
        size = weight.shape[0]
        bias = state.function.constant(f"zeros.{size}", lambda: np.zeros(size, state.dtype))
    return state.mb.linear(x=x, weight=weight, bias=bias, name=_name(node))


def _low_rank(state: Lowering, node: Node) -> Lowered:
    op, mb = cast(ops.LowRank, node.op), state.mb
    y, h, gates = (state.value(name) for name in node.inputs[:3])
    names = node.inputs[3:]
    columns = "_".join(map(str, op.columns))
    repeat = state.function.constant(f"gates.{columns}", lambda: gate_columns(op).T.astype(state.dtype))
    written = state.function.constant(
        "+".join(names), lambda: written_rows(op, state.weights, names).T.astype(state.dtype)
    )
    gated = mb.mul(x=h, y=mb.matmul(x=gates, y=repeat))
    return mb.add(x=y, y=mb.matmul(x=gated, y=written), name=_name(node))


def _split(state: Lowering, node: Node) -> Lowered:
    sizes = list(cast(ops.Split, node.op).sizes)
    return state.mb.split(x=state.value(node.inputs[0]), split_sizes=sizes, axis=-1)


def _reshape(state: Lowering, node: Node) -> Lowered:
    shape = state.sizes(state.graph.values[node.outputs[0]].shape)
    return state.mb.reshape(x=state.value(node.inputs[0]), shape=shape, name=_name(node))


def _heads_first(state: Lowering, node: Node) -> Lowered:
    return state.mb.transpose(x=state.value(node.inputs[0]), perm=(1, 0, 2), name=_name(node))


def _rotate(state: Lowering, node: Node) -> Lowered:
    rotary, mb, x = cast(ops.Rotate, node.op).rotary, state.mb, state.value(node.inputs[0])
    D, half = int(state.graph.values[node.outputs[0]].shape[-1]), rotary.size // 2
    cos, sin = state.rotary(rotary)
    sizes = [half, half] + ([D - rotary.size] if rotary.size < D else [])
    first, second, *rest = mb.split(x=x, split_sizes=sizes, axis=-1)
    turned = [
        mb.sub(x=mb.mul(x=first, y=cos), y=mb.mul(x=second, y=sin)),
        mb.add(x=mb.mul(x=second, y=cos), y=mb.mul(x=first, y=sin)),
    ]
    return mb.concat(values=[*turned, *rest], axis=-1, name=_name(node))


def _activate(state: Lowering, node: Node) -> Lowered:
    x = state.value(node.inputs[0])
    if cast(ops.Activate, node.op).kind == "gelu_tanh":
        return state.mb.gelu(x=x, mode="TANH_APPROXIMATION", name=_name(node))
    return state.mb.silu(x=x, name=_name(node))


def _add(state: Lowering, node: Node) -> Lowered:
    x, y = map(state.value, node.inputs)
    return state.mb.add(x=x, y=y, name=_name(node))


def _multiply(state: Lowering, node: Node) -> Lowered:
    x, y = map(state.value, node.inputs)
    return state.mb.mul(x=x, y=y, name=_name(node))


def _scale(state: Lowering, node: Node) -> Lowered:
    factor = state.number(cast(ops.Scale, node.op).factor)
    return state.mb.mul(x=state.value(node.inputs[0]), y=factor, name=_name(node))


def _scale_columns(state: Lowering, node: Node) -> Lowered:
    return state.mb.mul(x=state.value(node.inputs[0]), y=state.vector(node.inputs[1]), name=_name(node))


def _block_sums(state: Lowering, node: Node) -> Lowered:
    rows, count = state.sizes(state.graph.values[node.outputs[0]].shape)
    shape = (rows, count, cast(ops.BlockSums, node.op).block)
    blocks = state.mb.reshape(x=state.value(node.inputs[0]), shape=shape)
    return state.mb.reduce_sum(x=blocks, axes=[-1], keep_dims=False, name=_name(node))


def _softcap(state: Lowering, node: Node) -> Lowered:
    cap = cast(ops.Softcap, node.op).cap
    bent = state.mb.tanh(x=state.mb.mul(x=state.value(node.inputs[0]), y=state.number(1 / cap)))
    return state.mb.mul(x=bent, y=state.number(cap), name=_name(node))


LOWERINGS: Mapping[type[ops.Op], Callable[[Lowering, Node], Lowered]] = {
    ops.Embed: _embed,
    ops.TakeRows: _take_rows,
    ops.RmsNorm: _rms_norm,
    ops.Linear: _linear,
    ops.LowRank: _low_rank,
    ops.Split: _split,
    ops.SplitHeads: _reshape,
    ops.MergeHeads: _reshape,
    ops.HeadsFirst: _heads_first,
    ops.Rotate: _rotate,
    ops.Attend: lower_attend,
    ops.Activate: _activate,
    ops.Add: _add,
    ops.Multiply: _multiply,
    ops.Scale: _scale,
    ops.ScaleColumns: _scale_columns,
    ops.BlockSums: _block_sums,
    ops.Softcap: _softcap,
}
