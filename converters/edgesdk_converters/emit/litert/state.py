"""What the lowerings of one LiteRT signature share: tensors made so far, sizes, and small operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_shape import FEW
from edgesdk_converters.emit.litert.model_file import Subgraph, Varying, stated
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.ops import Shape
from edgesdk_converters.graph.rotary import rotary_table, table_name
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights


class CellPart(NamedTuple):
    """Keys or values as attention reads them: new ones (K, T, D), cells (K, S, D), whether in float16."""

    new: int
    cells: int
    half: bool = False


@dataclass
class Lowering:
    """State while one subgraph is built.

    Attributes:
        subgraph: where operators go.
        graph: what is lowered.
        weights: constants.
        step: the size, the largest of those that share the signature.
        context: length of the rotary tables.
        varying: which of `T`, `S` and `R` differ among those.
        few: its masks have FEW columns for new tokens, however many there are.
        wide: float16 cells become float32 before they are multiplied.
        index: tensor index of every value made so far.
        cell_scales: tensor index of the scales of int8 cells, by the cells' name.
        half_cells: names of cells in float16.
        read_cells: cells that a layer has read, by their name, for layers that read the same.
        channel_scales: whether int8 products have their scales inside, which tflite-runtime 2.14 takes
            for zeros, or multiply by them afterwards (docs/decisions/0003).
        stacked: tensor index of rows above what rounding them loses, by that of the rows (`two_rows`).
        repeated_gates: tensor index of gates repeated by their ranks, by that of the gates and their columns.
    """

    subgraph: Subgraph
    graph: Graph
    weights: QuantisedWeights
    step: StepShape
    context: int
    varying: frozenset[str] = frozenset()
    few: bool = False
    wide: bool = False
    index: dict[str, int] = field(default_factory=dict)
    cell_scales: dict[str, int] = field(default_factory=dict)
    half_cells: set[str] = field(default_factory=set)
    read_cells: dict[str, CellPart] = field(default_factory=dict)
    channel_scales: bool = True
    _reshaped: dict[int, int] = field(default_factory=dict)
    _gathered: dict[RotarySpec, tuple[int, int]] = field(default_factory=dict)
    _tiled: dict[tuple[int, int], int] = field(default_factory=dict)
    stacked: dict[int, int] = field(default_factory=dict)
    repeated_gates: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)

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
        R = Varying(self.step.rows) if "R" in self.varying else self.step.rows
        sizes = {"T": T, "S": S, "R": R, "S+T": S + (FEW if self.few else T)}
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
        same = self.subgraph.is_half(inputs[0]) and code != "DEQUANTIZE"
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
        """ADD, DIV, MAXIMUM, MINIMUM, MUL or SUB with broadcasting."""
        kind = "MaximumMinimum" if code in ("MAXIMUM", "MINIMUM") else code.capitalize()
        options = getattr(self.schema, f"{kind}OptionsT")()
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

    def pad_last(self, x: int, name: str, shape: tuple[int, ...], before: int) -> int:
        """Zeros before and behind the last axis; `shape` is the result's."""
        after = shape[-1] - before - self.subgraph.shape(x)[-1]
        pairs = np.zeros((len(shape), 2), np.int32)
        pairs[-1] = before, after
        key = f"int32:{len(shape)}:{before}:{after}"
        bounds = self.subgraph.constant(key, pairs.shape, "INT32", lambda: pairs)
        return self.emit("PAD", [x, bounds], name, shape, self.schema.PadOptionsT())

    def softcap(self, x: int, cap: float, name: str, shape: tuple[int, ...]) -> int:
        """cap * tanh(x / cap)."""
        small = self.binary("MUL", x, self.subgraph.number(1 / cap), f"{name}.small", shape)
        bent = self.emit("TANH", [small], f"{name}.bent", shape)
        return self.binary("MUL", bent, self.subgraph.number(cap), name, shape)

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
    told = f"{rotary.kind}.{rotary.theta:g}.{rotary.size}.{rotary.factor:g}.{rotary.attention_factor:g}"
    return f"{told}.{table_name(rotary)[-12:]}" if rotary.factors or rotary.growth else told


def _full_table(rotary: RotarySpec, count: int, kind: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(count, size): `x * cos + swapped halves * sin`, so the first half of the sines is negative."""
    cos, sin = rotary_table(rotary, count)
    return np.concatenate([cos, cos] if kind == "cos" else [-sin, sin], axis=1)
