"""Lowers each operation of the graph to MIL operations, for one static size of the step.

Everything computes in float16, as the Neural Engine does. What that asks for is here: the RMS norm
divides by the row's largest magnitude first, because squares of the residual stream leave float16's
range (65504) from 256 on. Weights stay integers behind `constexpr_blockwise_shift_scale`, or
indices behind `constexpr_lut_to_dense`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk_converters.emit.coreml.attention import lower_attend
from edgesdk_converters.emit.coreml.mil_package import (
    Compute,
    MilBuilder,
    MilFunction,
    MilValue,
    core_ml_name,
)
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

Lowered = MilValue | Sequence[MilValue]

_SMALLEST_ROW = 2.0**-13
"""Rows below this magnitude are divided by it instead of by themselves: a zero row must stay zero."""


@dataclass
class Lowering:
    """State while one function is built; values keep the names that the graph gives them.

    Attributes:
        function: where operations go.
        graph: what is lowered.
        weights: constants.
        step: the static size.
        context: length of the rotary tables.
        compute: element type of every floating point value.
        stateful: whether cells are states of the model.
    """

    function: MilFunction
    graph: Graph
    weights: QuantisedWeights
    step: StepShape
    context: int
    compute: Compute
    stateful: bool
    _gathered: dict[RotarySpec, tuple[MilValue, MilValue]] = field(default_factory=dict)

    @property
    def mb(self) -> MilBuilder:
        """coremltools' builder of operations."""
        return self.function.mb

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """The compute type in numpy."""
        return np.float16 if self.compute == "fp16" else np.float32

    def sizes(self, shape: Shape) -> tuple[int, ...]:
        """A symbolic shape in numbers."""
        step = self.step
        sizes = {"T": step.tokens, "S": step.cells, "R": step.rows, "S+T": step.cells + step.tokens}
        return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in shape)

    def value(self, name: str) -> MilValue:
        """A value made so far."""
        return self.function.values[core_ml_name(name)]

    def number(self, value: float) -> np.floating[Any]:
        """A scalar in the compute type."""
        return self.dtype(value)

    def softcap(self, x: MilValue, cap: float) -> MilValue:
        """cap * tanh(x / cap)."""
        bent = self.mb.tanh(x=self.mb.mul(x=x, y=self.number(1 / cap)))
        return self.mb.mul(x=bent, y=self.number(cap))

    def vector(self, name: str) -> MilValue:
        """A one-dimensional weight."""
        return self.function.constant(name, lambda: self.weights.load(name).astype(self.dtype))

    def matrix(self, name: str) -> MilValue:
        """A matrix (O, I), as the recipe stores it."""
        scheme, weights = self.weights.scheme(name), self.weights
        if scheme is None:
            return self.function.constant(name, lambda: weights.load(name).astype(self.dtype))
        if scheme.palette:
            return self.function.palettised(
                name,
                lambda: weights.palettised(name).indices,
                lambda: weights.palettised(name).palettes[:, None, :, None].astype(self.dtype),
            )
        return self.function.quantised(
            name,
            lambda: weights.quantised(name).values,
            lambda: weights.quantised(name).scales.astype(self.dtype),
            bits=scheme.bits,
        )

    def rotary(self, rotary: RotarySpec) -> tuple[MilValue, MilValue]:
        """Cosines and sines of the step's positions: (T, 1, size / 2) each, made once."""
        if rotary not in self._gathered:
            pair = []
            for i, kind in enumerate(("cos", "sin")):
                make: Callable[[], NDArray[np.generic]] = lambda i=i: rotary_table(rotary, self.context)[  # type: ignore[misc]  # noqa: E731
                    i
                ].astype(self.dtype)
                table = self.function.constant(f"rotary.{kind}.{rotary}", make)
                rows = self.mb.gather(x=table, indices=self.value("positions"), axis=0)
                pair.append(self.mb.expand_dims(x=rows, axes=[1]))
            self._gathered[rotary] = (pair[0], pair[1])
        return self._gathered[rotary]


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
    op, mb, x = cast(RmsNorm, node.op), state.mb, state.value(node.inputs[0])
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


def _split(state: Lowering, node: Node) -> Lowered:
    sizes = list(cast(Split, node.op).sizes)
    return state.mb.split(x=state.value(node.inputs[0]), split_sizes=sizes, axis=-1)


def _reshape(state: Lowering, node: Node) -> Lowered:
    shape = state.sizes(state.graph.values[node.outputs[0]].shape)
    return state.mb.reshape(x=state.value(node.inputs[0]), shape=shape, name=_name(node))


def _heads_first(state: Lowering, node: Node) -> Lowered:
    return state.mb.transpose(x=state.value(node.inputs[0]), perm=(1, 0, 2), name=_name(node))


def _rotate(state: Lowering, node: Node) -> Lowered:
    rotary, mb, x = cast(Rotate, node.op).rotary, state.mb, state.value(node.inputs[0])
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
    if cast(Activate, node.op).kind == "gelu_tanh":
        return state.mb.gelu(x=x, mode="TANH_APPROXIMATION", name=_name(node))
    return state.mb.silu(x=x, name=_name(node))


def _add(state: Lowering, node: Node) -> Lowered:
    x, y = map(state.value, node.inputs)
    return state.mb.add(x=x, y=y, name=_name(node))


def _multiply(state: Lowering, node: Node) -> Lowered:
    x, y = map(state.value, node.inputs)
    return state.mb.mul(x=x, y=y, name=_name(node))


def _scale(state: Lowering, node: Node) -> Lowered:
    factor = state.number(cast(Scale, node.op).factor)
    return state.mb.mul(x=state.value(node.inputs[0]), y=factor, name=_name(node))


def _scale_columns(state: Lowering, node: Node) -> Lowered:
    return state.mb.mul(x=state.value(node.inputs[0]), y=state.vector(node.inputs[1]), name=_name(node))


def _block_sums(state: Lowering, node: Node) -> Lowered:
    rows, count = state.sizes(state.graph.values[node.outputs[0]].shape)
    shape = (rows, count, cast(BlockSums, node.op).block)
    blocks = state.mb.reshape(x=state.value(node.inputs[0]), shape=shape)
    return state.mb.reduce_sum(x=blocks, axes=[-1], keep_dims=False, name=_name(node))


def _softcap(state: Lowering, node: Node) -> Lowered:
    cap = cast(Softcap, node.op).cap
    bent = state.mb.tanh(x=state.mb.mul(x=state.value(node.inputs[0]), y=state.number(1 / cap)))
    return state.mb.mul(x=bent, y=state.number(cap), name=_name(node))


LOWERINGS: Mapping[type[Op], Callable[[Lowering, Node], Lowered]] = {
    Embed: _embed,
    TakeRows: _take_rows,
    RmsNorm: _rms_norm,
    Linear: _linear,
    Split: _split,
    SplitHeads: _reshape,
    MergeHeads: _reshape,
    HeadsFirst: _heads_first,
    Rotate: _rotate,
    Attend: lower_attend,
    Activate: _activate,
    Add: _add,
    Multiply: _multiply,
    Scale: _scale,
    ScaleColumns: _scale_columns,
    BlockSums: _block_sums,
    Softcap: _softcap,
}
