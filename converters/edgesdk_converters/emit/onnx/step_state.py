"""What the lowerings of one ONNX step share: its sizes, constants however they are stored, small nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk_converters.emit.gated_columns import gate_columns, in_integers, written_scales
from edgesdk_converters.emit.onnx.model_file import OnnxModel
from edgesdk_converters.emit.pack_int4 import pack_int4
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.ops import LowRank, Shape
from edgesdk_converters.graph.rotary import rotary_table, table_name
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights

FLOAT = 1
"""float32 as the Cast operator numbers it (onnx.proto, `TensorProto.DataType`)."""


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

    def softcap(self, x: str, cap: float, name: str) -> str:
        """cap * tanh(x / cap)."""
        small = self.binary("Mul", x, self.number(1 / cap), f"{name}.small")
        bent = self.model.node("Tanh", [small], [f"{name}.bent"])
        return self.binary("Mul", bent, self.number(cap), name)

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
        return self._stored(name, self.weights.shape(name), lambda: self.weights.load(name))

    def rotary(self, rotary: RotarySpec) -> tuple[str, str]:
        """Cosines and sines of the step's positions: (T, 1, size / 2) each, made once."""
        if rotary not in self._gathered:
            key = table_name(rotary)
            half, pair = rotary.size // 2, []
            for i, kind in enumerate(("cos", "sin")):
                table = self.model.constant(
                    f"rotary.{kind}.{key}",
                    "FLOAT",
                    (self.context, half),
                    lambda i=i: np.ascontiguousarray(rotary_table(rotary, self.context)[i]),  # type: ignore[misc]
                )
                rows = self.model.node("Gather", [table, "positions"], [f"{table}.rows"])
                pair.append(self.reshape(rows, f"{table}.rows3", self.sizes(("T", 1, half))))
            self._gathered[rotary] = (pair[0], pair[1])
        return self._gathered[rotary]

    def repeated_gates(self, op: LowRank, gates: str) -> str:
        """Gates (M, G) as often as their ranks, (M, columns of h), made once; one gate is broadcast."""
        columns, count = op.columns, len(op.parts[0].ranks)
        if count == 1:
            return gates
        key = f"{gates}.{'_'.join(map(str, columns))}"
        if key not in self._made:
            matrix = self.model.constant(
                f"{key}.columns", "FLOAT", (len(columns), count), lambda: gate_columns(op)
            )
            self._made[key] = self.model.node("Gemm", [gates, matrix], [key], {"transB": 1})
        return self._made[key]

    def written_rows(self, op: LowRank, names: Sequence[str]) -> str:
        """B of all parts on a diagonal, (O, columns of h), as the recipe stores it, in float32.

        The file holds each part and zeros that products of one size share; runtimes put them together when
        they load it, as they do with whatever depends on constants alone.
        """
        name, whole = "+".join(names), in_integers(self.weights, names)
        zeros, part_of = (self._no_integers, self.integers) if whole else (self._zeros, self.stored_matrix)
        left, column, bands = iter(names), 0, []
        for part in op.parts:
            after = len(op.columns) - column - part.rank
            pieces = [zeros(part.width, column)] if column else []
            pieces += [part_of(next(left))] if part.rank else []
            pieces += [zeros(part.width, after)] if after else []
            bands.append(self._joined(pieces, 1))
            column += part.rank
        joined = self._joined(bands, 0)
        if not whole:
            return self._wide(name, joined)
        rows = sum(part.width for part in op.parts)
        scales = self.model.constant(
            f"{name}.scales", "FLOAT", (rows,), lambda: written_scales(op, self.weights, names)
        )
        return self.model.node("DequantizeLinear", [joined, scales], [f"{name}.float32"], {"axis": 0})

    def _zeros(self, rows: int, columns: int) -> str:
        """Zeros in the recipe's type."""
        shape = (rows, columns)
        return self._stored(f"zeros.{rows}.{columns}", shape, lambda: np.zeros(shape, np.float32))

    def _no_integers(self, rows: int, columns: int) -> str:
        """Zeros in int8."""
        shape = (rows, columns)
        name = f"zeros.{rows}.{columns}.int8"
        return self.model.constant(name, "INT8", shape, lambda: np.zeros(shape, np.int8))

    def _joined(self, parts: Sequence[str], axis: int) -> str:
        """Constants behind each other; one alone is as it is."""
        if len(parts) == 1:
            return parts[0]
        name = f"{'|'.join(parts)}.joined"
        if name not in self._made:
            self._made[name] = self.model.node("Concat", parts, [name], {"axis": axis})
        return self._made[name]

    def _stored(self, name: str, shape: tuple[int, ...], load: Callable[[], NDArray[np.float32]]) -> str:
        """A floating point constant in the recipe's type."""
        half = self.weights.recipe.float_type == "float16"
        kind = np.float16 if half else np.float32
        return self.model.constant(name, "FLOAT16" if half else "FLOAT", shape, lambda: load().astype(kind))

    def _wide(self, name: str, stored: str) -> str:
        """Such a constant in float32."""
        if self.weights.recipe.float_type == "float32":
            return stored
        return self.model.node("Cast", [stored], [f"{name}.float32"], {"to": FLOAT})

    def _matrix(self, name: str) -> str:
        scheme = self.weights.scheme(name)
        if scheme is None:
            return self._wide(name, self.stored_matrix(name))
        attributes = {"axis": 0} if scheme.block is None else {"axis": 1, "block_size": scheme.block}
        inputs = [self.integers(name), self.scales(name)]
        return self.model.node("DequantizeLinear", inputs, [f"{name}.float32"], attributes)
