"""Lowers the operations that Qualcomm's Hexagon processor (HTP) wants in another form than `step` has.

Matrices in integers are multiplied with 16-bit activations of a fixed scale, written as QuantizeLinear
and DequantizeLinear around the product; everything between is float16 there, whatever the file says.
A matrix whose activations 16 bits cannot resolve is multiplied in float16, its integers and scales
unchanged. What the compiler refuses, and what float16 cannot hold, is in docs/npu.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from edgesdk_converters.emit.onnx.step_attention import lower_attend
from edgesdk_converters.emit.onnx.step_lowering import LOWERINGS
from edgesdk_converters.emit.onnx.step_state import StepLowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Activate, Attend, Embed, Linear, Op, RmsNorm
from edgesdk_converters.quantise.activation_ranges import ActivationRange

_LOWEST_MASK = -3e4  # in float16's range: a row that sees nothing must give ordinary numbers
_UNIT = 1 / 128  # what int8 integers are multiplied with before they are float16: -1 to 1
_GELU_CUBE, _GELU_SCALE = 0.044715, 0.7978845608


@dataclass
class NpuLowering(StepLowering):
    """State while one model is built.

    Attributes:
        ranges: of the values that linear layers read and give.
    """

    ranges: Mapping[str, ActivationRange] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)

    def unit(self) -> list[str]:
        """Scale and zero point that turn int8 integers into numbers from -1 to 1."""
        zero = self.model.constant("int8.0", "INT8", [], lambda: np.zeros((), np.int8))
        return [self.model.number(_UNIT), zero]

    def whole_integers(self, name: str) -> str:
        """An int8 matrix (O, I) as numbers from -1 to 1, without the scales of its rows."""
        # The compiler remembers a constant's scale by its name: with the scales of rows it is another.
        integers = self.model.alias(self.integers(name), f"{name}.unit_int8")
        return self.model.node("DequantizeLinear", [integers, *self.unit()], [self.once(f"{name}.unit")])

    def row_scales(self, name: str) -> str:
        """What `whole_integers` lacks: (O,)."""
        (rows, _), weights = self.weights.shape(name), self.weights
        return self.model.constant(
            f"{name}.unit_scales",
            "FLOAT",
            (rows,),
            lambda: weights.quantised(name).scales.reshape(rows) / np.float32(_UNIT),
        )

    def plain_matrix(self, name: str) -> str:
        """A matrix as float16 numbers, behind a Cast; the compiler keeps them so."""
        shape = self.weights.shape(name)
        half = self.model.constant(
            f"{name}.half", "FLOAT16", shape, lambda: self.weights.load(name).astype(np.float16)
        )
        return self.model.node("Cast", [half], [self.once(f"{name}.plain")], {"to": 1})

    def through_16_bits(self, x: str, found: ActivationRange, name: str) -> str:
        """A value rounded to 16 bits: QuantizeLinear, then DequantizeLinear."""
        scale = self.model.constant(f"{name}.scale", "FLOAT", [], lambda: np.asarray(found.scale, np.float32))
        zero = self.model.constant(
            f"{name}.zero", "UINT16", [], lambda: np.asarray(found.zero_point, np.uint16)
        )
        levels = self.model.node("QuantizeLinear", [x, scale, zero], [f"{name}.levels"])
        return self.model.node("DequantizeLinear", [levels, scale, zero], [name])

    def once(self, name: str) -> str:
        """A name of its own for every use: the compiler wants one DequantizeLinear per reader."""
        count = self._uses.get(name, 0)
        self._uses[name] = count + 1
        return name if count == 0 else f"{name}.{count}"


def runs_in_16_bits(node: Node, state: NpuLowering) -> bool:
    """Whether a linear layer is computed in integers."""
    x, weight, out = node.inputs[0], node.inputs[1], node.outputs[0]
    ranges = state.ranges
    scheme = state.weights.scheme(weight)
    if scheme is None or scheme.palette or x not in ranges or out not in ranges:
        return False
    return ranges[x].fits and ranges[out].fits


def lower_npu_node(state: NpuLowering, node: Node) -> None:
    """Appends the operators of one node."""
    if type(node.op) in NPU_LOWERINGS:
        NPU_LOWERINGS[type(node.op)](state, node)
    else:
        LOWERINGS[type(node.op)](state, node)


def _is_int8_rows(state: NpuLowering, name: str) -> bool:
    scheme = state.weights.scheme(name)
    return scheme is not None and scheme.bits == 8 and scheme.block is None and not scheme.palette


def _embed(state: NpuLowering, node: Node) -> None:
    (tokens, table), out = node.inputs, node.outputs[0]
    if not _is_int8_rows(state, table):
        state.model.node("Gather", [state.plain_matrix(table), tokens], [out])
        return
    # The compiler looks rows up in integers where DequantizeLinear and QuantizeLinear stand around it.
    rows = state.model.node("Gather", [state.whole_integers(table), tokens], [f"{out}.rows"])
    levels = state.model.node("QuantizeLinear", [rows, *state.unit()], [f"{out}.levels"])
    values = state.model.node("DequantizeLinear", [levels, *state.unit()], [f"{out}.unscaled"])
    scales = state.model.node("Gather", [state.row_scales(table), tokens], [f"{out}.scales"])
    column = state.reshape(scales, f"{out}.column", (state.step.tokens, 1))
    state.binary("Mul", values, column, out)


def _linear(state: NpuLowering, node: Node) -> None:
    x, weight, out = node.inputs[0], node.inputs[1], node.outputs[0]
    biased = len(node.inputs) == 3
    product = f"{out}.product" if biased else out
    if runs_in_16_bits(node, state):
        read = state.through_16_bits(x, state.ranges[x], f"{out}.read")
        wide = state.model.node("Gemm", [read, _scaled_matrix(state, weight)], [f"{out}.wide"], {"transB": 1})
        state.through_16_bits(wide, state.ranges[out], product)
    elif _is_int8_rows(state, weight):
        units = state.model.node("Gemm", [x, state.whole_integers(weight)], [f"{out}.units"], {"transB": 1})
        state.binary("Mul", units, state.row_scales(weight), product)
    else:
        state.model.node("Gemm", [x, state.plain_matrix(weight)], [product], {"transB": 1})
    if biased:
        state.binary("Add", product, state.vector(node.inputs[2]), out)


def _scaled_matrix(state: NpuLowering, name: str) -> str:
    scheme = state.weights.scheme(name)
    block = None if scheme is None else scheme.block
    attributes = {"axis": 0} if block is None else {"axis": 1, "block_size": block}
    inputs = [state.integers(name), state.scales(name)]
    return state.model.node("DequantizeLinear", inputs, [state.once(f"{name}.scaled")], attributes)


def _rms_norm(state: NpuLowering, node: Node) -> None:
    """Divides by the row's largest magnitude first: a square would not fit float16."""
    op, x, out = cast(RmsNorm, node.op), node.inputs[0], node.outputs[0]
    weighted = len(node.inputs) == 2
    axes = state.model.integers([-1])
    sizes = state.model.node("Abs", [x], [f"{out}.sizes"])
    largest = state.model.node("ReduceMax", [sizes, axes], [f"{out}.largest"])
    peak = state.binary("Add", largest, state.number(1e-3), f"{out}.peak")
    small = state.binary("Div", x, peak, f"{out}.small")
    squares = state.binary("Mul", small, small, f"{out}.squares")
    mean = state.model.node("ReduceMean", [squares, axes], [f"{out}.mean"])
    # eps belongs under the root beside x^2, so it is divided by the same, in two steps that float16 holds.
    eps = state.binary("Div", state.number(float(np.sqrt(op.eps))), peak, f"{out}.eps")
    eps2 = state.binary("Mul", eps, eps, f"{out}.eps2")
    shifted = state.binary("Add", mean, eps2, f"{out}.shifted")
    root = state.model.node("Sqrt", [shifted], [f"{out}.root"])
    unit = state.binary("Div", small, root, f"{out}.unit" if weighted else out)
    if weighted:
        state.binary("Mul", unit, state.vector(node.inputs[1]), out)


def _attend(state: NpuLowering, node: Node) -> None:
    query, keys, values, mask, *cells = node.inputs
    clipped = f"{mask}.clipped"
    if mask not in state._made:
        state._made[mask] = state.model.node("Max", [mask, state.number(_LOWEST_MASK)], [clipped])
    lower_attend(state, dataclasses.replace(node, inputs=(query, keys, values, clipped, *cells)))


def _activate(state: NpuLowering, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    if cast(Activate, node.op).kind != "gelu_tanh":
        LOWERINGS[Activate](state, node)
        return
    squares = state.binary("Mul", x, x, f"{out}.squares")
    cubed = state.binary("Mul", squares, state.number(_GELU_CUBE * _GELU_SCALE), f"{out}.cubed")
    bent = state.binary("Add", cubed, state.number(_GELU_SCALE), f"{out}.bent")
    inner = state.binary("Mul", x, bent, f"{out}.inner")
    turned = state.model.node("Tanh", [inner], [f"{out}.turned"])
    share = state.binary("Add", turned, state.number(1.0), f"{out}.share")
    half = state.binary("Mul", x, state.number(0.5), f"{out}.half")
    state.binary("Mul", half, share, out)


NPU_LOWERINGS: Mapping[type[Op], Callable[[NpuLowering, Node], None]] = {
    Embed: _embed,
    Linear: _linear,
    RmsNorm: _rms_norm,
    Attend: _attend,
    Activate: _activate,
}
"""Operations that need another form than `step_lowering.LOWERINGS` gives them."""
