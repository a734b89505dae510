"""Lowers each operation of the graph to ONNX's own operators, for one static size of the step.

Only operators that NPU compilers take: weights stand behind DequantizeLinear (int8 per row, int4 in
blocks) and feed Gemm, which wants them as they are stored, (O, I). No operator of ONNX Runtime's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk_converters.emit.onnx.model_file import OnnxModel
from edgesdk_converters.emit.onnx.step_attention import lower_attend
from edgesdk_converters.emit.pack_int4 import pack_int4
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.ops import (
    Activate,
    Add,
    Attend,
    BlockSums,
    Embed,
    HeadsFirst,
    Linear,
    MergeHeads,
    Multiply,
    Op,
    RmsNorm,
    Rotate,
    Scale,
    ScaleColumns,
    Shape,
    Softcap,
    Split,
    SplitHeads,
    TakeRows,
)
from edgesdk_converters.graph.rotary import rotary_table
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights

FLOAT, FLOAT16 = 1, 10
"""Element types as the Cast operator numbers them (onnx.proto, `TensorProto.DataType`)."""


@dataclass
class StepLowering:
    """State while one model is built; values keep the names that the graph gives them.

    Attributes:
        model: where nodes go.
        graph: what is lowered.
        weights: constants.
        step: the static size.
        context: length of the rotary tables.
    """

    model: OnnxModel
    graph: Graph
    weights: QuantisedWeights
    step: StepShape
    context: int
    _made: dict[str, str] = field(default_factory=dict)
    _gathered: dict[RotarySpec, tuple[str, str]] = field(default_factory=dict)

    def sizes(self, shape: Shape) -> tuple[int, ...]:
        """A symbolic shape in numbers."""
        step = self.step
        sizes = {"T": step.tokens, "S": step.cells, "R": step.rows, "S+T": step.cells + step.tokens}
        return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in shape)

    def reshape(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        """Gives a value another shape."""
        return self.model.node("Reshape", [x, self.model.integers(shape)], [name])

    def transpose(self, x: str, name: str, axes: tuple[int, ...]) -> str:
        """Permutes axes."""
        return self.model.node("Transpose", [x], [name], {"perm": axes})

    def slice(self, x: str, name: str, start: int, stop: int) -> str:
        """A range of the last axis."""
        bounds = [self.model.integers([value]) for value in (start, stop, -1)]
        return self.model.node("Slice", [x, *bounds], [name])

    def concat(self, parts: list[str], name: str) -> str:
        """Joins along the last axis."""
        return self.model.node("Concat", parts, [name], {"axis": -1})

    def binary(self, op: str, a: str, b: str, name: str) -> str:
        """Add, Sub, Mul or Div with broadcasting."""
        return self.model.node(op, [a, b], [name])

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.model.number(value)

    def vector(self, name: str) -> str:
        """A one-dimensional weight."""
        return self.model.constant(name, "FLOAT", self.weights.shape(name), lambda: self.weights.load(name))

    def integers(self, name: str) -> str:
        """The integers of a quantised matrix: (O, I) int8 or int4."""
        shape, scheme, weights = self.weights.shape(name), self.weights.scheme(name), self.weights
        if scheme is not None and scheme.bits == 4:
            make: Callable[[], NDArray[np.generic]] = lambda: pack_int4(weights.quantised(name).values)  # noqa: E731
            return self.model.constant(f"{name}.int4", "INT4", shape, make)
        return self.model.constant(f"{name}.int8", "INT8", shape, lambda: weights.quantised(name).values)

    def scales(self, name: str) -> str:
        """Scales of a quantised matrix: (O,) per row, or (O, B) per block."""
        weights, scheme = self.weights, self.weights.scheme(name)
        rows, columns = weights.shape(name)
        if scheme is not None and scheme.block is not None:
            shape: tuple[int, ...] = (rows, columns // scheme.block)
        else:
            shape = (rows,)
        return self.model.constant(
            f"{name}.scales", "FLOAT", shape, lambda: weights.quantised(name).scales.reshape(shape)
        )

    def matrix(self, name: str) -> str:
        """A matrix (O, I) in float32, however it is stored."""
        if name not in self._made:
            self._made[name] = self._matrix(name)
        return self._made[name]

    def stored_matrix(self, name: str) -> str:
        """A floating point matrix (O, I) in the recipe's type."""
        half = self.weights.recipe.float_type == "float16"
        kind = np.float16 if half else np.float32
        shape = self.weights.shape(name)
        return self.model.constant(
            name, "FLOAT16" if half else "FLOAT", shape, lambda: self.weights.load(name).astype(kind)
        )

    def rotary(self, rotary: RotarySpec) -> tuple[str, str]:
        """Cosines and sines of the step's positions: (T, 1, size / 2) each, made once."""
        if rotary not in self._gathered:
            key = "_".join(map(str, dataclasses.astuple(rotary)))
            half, pair = rotary.size // 2, []
            for i, kind in enumerate(("cos", "sin")):
                table = self.model.constant(
                    f"rotary.{kind}.{key}",
                    "FLOAT",
                    (self.context, half),
                    lambda i=i: np.ascontiguousarray(rotary_table(rotary, self.context)[i]),  # type: ignore[misc]
                )
                rows = self.model.node("Gather", [table, "positions"], [f"{table}.rows"])
                pair.append(self.reshape(rows, f"{table}.rows3", (self.step.tokens, 1, half)))
            self._gathered[rotary] = (pair[0], pair[1])
        return self._gathered[rotary]

    def _matrix(self, name: str) -> str:
        scheme = self.weights.scheme(name)
        if scheme is None:
            stored = self.stored_matrix(name)
            if self.weights.recipe.float_type == "float32":
                return stored
            return self.model.node("Cast", [stored], [f"{name}.float32"], {"to": FLOAT})
        attributes = {"axis": 0} if scheme.block is None else {"axis": 1, "block_size": scheme.block}
        inputs = [self.integers(name), self.scales(name)]
        return self.model.node("DequantizeLinear", inputs, [f"{name}.float32"], attributes)


def lower_node(state: StepLowering, node: Node) -> None:
    """Appends the operators of one node."""
    LOWERINGS[type(node.op)](state, node)


def softcap(state: StepLowering, x: str, cap: float, name: str) -> str:
    """cap * tanh(x / cap)."""
    small = state.binary("Mul", x, state.number(1 / cap), f"{name}.small")
    bent = state.model.node("Tanh", [small], [f"{name}.bent"])
    return state.binary("Mul", bent, state.number(cap), name)


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
    column = state.reshape(scales, f"{out}.column", (state.step.tokens, 1))
    state.binary("Mul", values, column, out)


def _take_rows(state: StepLowering, node: Node) -> None:
    state.model.node("Gather", node.inputs, node.outputs)


def _rms_norm(state: StepLowering, node: Node) -> None:
    op, x, out = cast(RmsNorm, node.op), node.inputs[0], node.outputs[0]
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


def _split(state: StepLowering, node: Node) -> None:
    sizes = state.model.integers(cast(Split, node.op).sizes)
    state.model.node("Split", [node.inputs[0], sizes], node.outputs, {"axis": -1})


def _reshape(state: StepLowering, node: Node) -> None:
    out = node.outputs[0]
    state.reshape(node.inputs[0], out, state.sizes(state.graph.values[out].shape))


def _heads_first(state: StepLowering, node: Node) -> None:
    state.transpose(node.inputs[0], node.outputs[0], (1, 0, 2))


def _rotate(state: StepLowering, node: Node) -> None:
    rotary, x, out = cast(Rotate, node.op).rotary, node.inputs[0], node.outputs[0]
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


def _activate(state: StepLowering, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    if cast(Activate, node.op).kind == "gelu_tanh":
        state.model.node("Gelu", [x], [out], {"approximate": "tanh"})
        return
    gate = state.model.node("Sigmoid", [x], [f"{out}.gate"])
    state.binary("Mul", x, gate, out)


def _add(state: StepLowering, node: Node) -> None:
    state.model.node("Add", node.inputs, node.outputs)


def _multiply(state: StepLowering, node: Node) -> None:
    state.model.node("Mul", node.inputs, node.outputs)


def _scale(state: StepLowering, node: Node) -> None:
    state.binary("Mul", node.inputs[0], state.number(cast(Scale, node.op).factor), node.outputs[0])


def _scale_columns(state: StepLowering, node: Node) -> None:
    state.binary("Mul", node.inputs[0], state.vector(node.inputs[1]), node.outputs[0])


def _block_sums(state: StepLowering, node: Node) -> None:
    out = node.outputs[0]
    rows, count = state.sizes(state.graph.values[out].shape)
    blocks = state.reshape(node.inputs[0], f"{out}.blocks", (rows, count, cast(BlockSums, node.op).block))
    state.model.node("ReduceSum", [blocks, state.model.integers([-1])], [out], {"keepdims": 0})


def _softcap(state: StepLowering, node: Node) -> None:
    softcap(state, node.inputs[0], cast(Softcap, node.op).cap, node.outputs[0])


LOWERINGS: Mapping[type[Op], Callable[[StepLowering, Node], None]] = {
    Embed: _embed,
    TakeRows: _take_rows,
    RmsNorm: _rms_norm,
    Linear: _linear,
    Split: _split,
    SplitHeads: _reshape,
    MergeHeads: _reshape,
    HeadsFirst: _heads_first,
    Rotate: _rotate,
    Attend: _attend,
    Activate: _activate,
    Add: _add,
    Multiply: _multiply,
    Scale: _scale,
    ScaleColumns: _scale_columns,
    BlockSums: _block_sums,
    Softcap: _softcap,
}
