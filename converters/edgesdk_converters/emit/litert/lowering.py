"""Lowers each operation of the graph to LiteRT operators, for one signature.

Shapes follow XNNPACK, which runs nearly all of it on CPU: products are FULLY_CONNECTED (int8 and
int4 weights with activations quantised per row at run time) and BATCH_MATMUL with float operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk_converters.emit.litert.attention import lower_attend
from edgesdk_converters.emit.litert.constants import weight_matrix
from edgesdk_converters.emit.litert.heads import (
    lower_heads_first,
    lower_rotate,
    lower_split,
    lower_split_heads,
    stated_order,
)
from edgesdk_converters.emit.litert.model_file import Constant, Subgraph, Varying, stated
from edgesdk_converters.emit.litert.packed_rows import packed_rows
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


@dataclass
class Lowering:
    """State while one subgraph is built.

    Attributes:
        subgraph: where operators go.
        graph: what is lowered.
        weights: constants.
        step: the size, the largest of those that share the signature.
        context: length of the rotary tables.
        varying: which of `T` and `S` differ among those.
        index: tensor index of every value made so far.
        cell_scales: tensor index of the scales of int8 cells, by the cells' name.
        half_cells: names of cells in float16.
        channel_scales: whether int8 products have their scales inside, which tflite-runtime 2.14 takes
            for zeros, or multiply by them afterwards (docs/decisions/0003).
    """

    subgraph: Subgraph
    graph: Graph
    weights: QuantisedWeights
    step: StepShape
    context: int
    varying: frozenset[str] = frozenset()
    index: dict[str, int] = field(default_factory=dict)
    cell_scales: dict[str, int] = field(default_factory=dict)
    half_cells: set[str] = field(default_factory=set)
    channel_scales: bool = True
    _reshaped: dict[int, int] = field(default_factory=dict)
    _gathered: dict[RotarySpec, tuple[int, int]] = field(default_factory=dict)
    _tiled: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def schema(self) -> Any:
        """The generated flatbuffer classes."""
        return self.subgraph.model.schema

    @property
    def tokens(self) -> int:
        """T."""
        return Varying(self.step.tokens) if "T" in self.varying else self.step.tokens

    def shape(self, shape: Shape) -> tuple[int, ...]:
        """A symbolic shape in numbers."""
        T = self.tokens
        S = Varying(self.step.cells) if "S" in self.varying else self.step.cells
        sizes = {"T": T, "S": S, "R": self.step.rows, "S+T": S + T}
        return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in shape)

    def emit(
        self,
        code: str,
        inputs: list[int],
        name: str,
        shape: tuple[int, ...],
        options: object = None,
        version: int = 1,
    ) -> int:
        """Appends an operator with one output and returns that tensor.

        It is float16 where the first input is, except behind DEQUANTIZE, and float32 elsewhere.
        """
        half = self.schema.TensorType.FLOAT16
        first = self.subgraph.tensors[inputs[0]]
        same = first.type == half and code != "DEQUANTIZE"  # type: ignore[attr-defined]
        dtype = "FLOAT16" if same else "FLOAT32"
        out = self.subgraph.tensor(name, shape, dtype)
        self.subgraph.op(code, version, inputs, [out], options)
        return out

    def reshape(self, x: int, name: str, shape: tuple[int, ...]) -> int:
        """A tensor in another shape, made from the one that `x` was itself a shape of, if it was.

        A tensor that has the shape already is the result; what nothing reads then is left out of the file.
        """
        source = self._reshaped.get(x, x)
        for found in (x, source):
            if self.subgraph.shape(found) == shape:
                return found
        options = self.schema.ReshapeOptionsT()
        options.newShape = stated(shape)
        out = self.emit("RESHAPE", [source, self.subgraph.integers("shape", shape)], name, shape, options)
        self._reshaped[out] = source
        return out

    def transpose(self, x: int, name: str, shape: tuple[int, ...], permutation: tuple[int, ...]) -> int:
        """Permutes axes; `shape` is the result's."""
        axes = self.subgraph.integers("permutation", permutation)
        return self.emit("TRANSPOSE", [x, axes], name, shape, self.schema.TransposeOptionsT())

    def binary(self, code: str, a: int, b: int, name: str, shape: tuple[int, ...]) -> int:
        """ADD, MUL or SUB with broadcasting."""
        options = getattr(self.schema, f"{code.capitalize()}OptionsT")()
        return self.emit(code, [a, b], name, shape, options)

    def concat(self, parts: list[int], axis: int, name: str, shape: tuple[int, ...]) -> int:
        """CONCATENATION."""
        options = self.schema.ConcatenationOptionsT()
        options.axis = axis
        return self.emit("CONCATENATION", parts, name, shape, options)

    def slice_last(self, x: int, name: str, shape: tuple[int, ...], start: int) -> int:
        """A range of the last axis; `shape` is the result's."""
        return self.slice(x, name, shape, len(shape) - 1, start)

    def slice(self, x: int, name: str, shape: tuple[int, ...], axis: int, start: int) -> int:
        """A range of one axis; `shape` is the result's.

        Where a dimension varies, to its end: XNNPACK takes that from STRIDED_SLICE, not from SLICE.
        """
        begin = self.subgraph.integers("begin", [start if at == axis else 0 for at in range(len(shape))])
        if not any(isinstance(size, Varying) for size in shape):
            size = self.subgraph.integers("size", shape)
            return self.emit("SLICE", [x, begin, size], name, shape, self.schema.SliceOptionsT())
        ends = [start + size if at == axis else size for at, size in enumerate(shape)]
        end = self.subgraph.integers("end", ends)
        strides = self.subgraph.integers("strides", [1] * len(shape))
        options = self.schema.StridedSliceOptionsT()
        options.endMask = sum(1 << axis for axis, size in enumerate(shape) if isinstance(size, Varying))
        return self.emit("STRIDED_SLICE", [x, begin, end, strides], name, shape, options)

    def gather(self, table: int, rows: int, name: str, shape: tuple[int, ...], dtype: str = "FLOAT32") -> int:
        """Rows of a table."""
        options = self.schema.GatherOptionsT()
        options.axis = 0
        out = self.subgraph.tensor(name, shape, dtype)
        # Version 2 is the first that gathers int8.
        self.subgraph.op("GATHER", 2 if dtype == "INT8" else 1, [table, rows], [out], options)
        return out

    def rotary(self, rotary: RotarySpec) -> tuple[int, int]:
        """Cosines and signed sines of the step's positions: (T, 1, size) each, made once."""
        if rotary not in self._gathered:
            T, size = self.tokens, rotary.size
            pair = []
            for kind in ("cos", "sin"):
                key = f"rotary.{kind}.{hash_name(rotary)}"
                table = self.subgraph.constant(
                    key,
                    (self.context, size),
                    "FLOAT32",
                    lambda k=kind: _full_table(rotary, self.context, k),  # type: ignore[misc]
                )
                rows = self.gather(table, self.index["positions"], f"{key}.rows", (T, size))
                pair.append(self.reshape(rows, f"{key}.rows3", (T, 1, size)))
            self._gathered[rotary] = (pair[0], pair[1])
        return self._gathered[rotary]

    def tiled(self, mask: int, times: int, shape: tuple[int, ...]) -> int:
        """A mask (T, T+S) as many times under itself, made once: (times * T, T+S)."""
        key = (mask, times)
        if key not in self._tiled:
            self._tiled[key] = self.concat([mask] * times, 0, f"mask.{len(self._tiled)}.tiled", shape)
        return self._tiled[key]


def hash_name(rotary: RotarySpec) -> str:
    """A readable key for the tables of one rotary embedding."""
    return f"{rotary.kind}.{rotary.theta:g}.{rotary.size}.{rotary.factor:g}.{rotary.attention_factor:g}"


def _full_table(rotary: RotarySpec, count: int, kind: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(count, size): `x * cos + swapped halves * sin`, so the first half of the sines is negative."""
    cos, sin = rotary_table(rotary, count)
    return np.concatenate([cos, cos] if kind == "cos" else [-sin, sin], axis=1)


def lower_node(state: Lowering, node: Node) -> None:
    """Appends the operators of one node and records the tensors of its outputs."""
    inputs = [stated_order(state, node, name) for name in node.inputs]
    shapes = [state.shape(state.graph.values[name].shape) for name in node.outputs]
    outputs = LOWERINGS[type(node.op)](state, node, inputs, shapes)
    state.index.update(zip(node.outputs, outputs, strict=True))


def _embed(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    table, out = node.inputs[1], node.outputs[0]
    V, E = state.weights.shape(table)
    T = state.tokens
    scheme = state.weights.scheme(table)
    if scheme is None:
        rows = state.gather(weight_matrix(state.subgraph, state.weights, table), x[0], out, (T, E))
        return [rows]
    if scheme.bits == 4:
        return [packed_rows(state, table, x[0], out)]
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
    op, out, shape = cast(RmsNorm, node.op), node.outputs[0], state.subgraph.shape(x[0])
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
    if scheme is not None and scheme.bits == 8 and not inside:
        y = state.emit("FULLY_CONNECTED", [x[0], matrix, -1], f"{out}.unscaled", shape, options, 5)
        scales = _vector(state, f"{weight}.scales", lambda: state.weights.quantised(weight).scales[:, 0])
        y = state.binary("MUL", y, scales, out if bias < 0 else f"{out}.product", shape)
        return [y if bias < 0 else state.binary("ADD", y, bias, out, shape)]
    # Versions of FULLY_CONNECTED: 5 has keep_num_dims, 12 scales per channel, 13 blockwise int4.
    version = 5 if scheme is None else 13 if scheme.block else 12
    return [state.emit("FULLY_CONNECTED", [x[0], matrix, bias], out, shape, options, version)]


def _vector(state: Lowering, name: str, data: Constant) -> int:
    size = state.weights.shape(name.removesuffix(".scales"))[0]
    return state.subgraph.constant(name, (size,), "FLOAT32", data)


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


def _activate(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    out = node.outputs[0]
    if cast(Activate, node.op).kind == "gelu_tanh":
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
    factor = state.subgraph.number(cast(Scale, node.op).factor)
    return [state.binary("MUL", x[0], factor, node.outputs[0], shapes[0])]


def _scale_columns(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    weight = node.inputs[1]
    factors = _vector(state, weight, lambda: state.weights.load(weight))
    return [state.binary("MUL", x[0], factors, node.outputs[0], shapes[0])]


def _block_sums(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    block, out = cast(BlockSums, node.op).block, node.outputs[0]
    blocks = state.reshape(x[0], f"{out}.blocks", (*shapes[0], block))
    reducer = state.schema.ReducerOptionsT()
    return [state.emit("SUM", [blocks, state.subgraph.integers("axis", [2])], out, shapes[0], reducer)]


def _softcap(state: Lowering, node: Node, x: list[int], shapes: list[tuple[int, ...]]) -> list[int]:
    return [softcap(state, x[0], cast(Softcap, node.op).cap, node.outputs[0], shapes[0])]


def softcap(state: Lowering, x: int, cap: float, name: str, shape: tuple[int, ...]) -> int:
    """cap * tanh(x / cap)."""
    small = state.binary("MUL", x, state.subgraph.number(1 / cap), f"{name}.small", shape)
    bent = state.emit("TANH", [small], f"{name}.bent", shape)
    return state.binary("MUL", bent, state.subgraph.number(cap), name, shape)


LOWERINGS: Mapping[type[Op], Callable[[Lowering, Node, list[int], list[tuple[int, ...]]], list[int]]] = {
    Embed: _embed,
    TakeRows: _take_rows,
    RmsNorm: _rms_norm,
    Linear: _linear,
    Split: _split,
    SplitHeads: _split_heads,
    MergeHeads: _merge_heads,
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
