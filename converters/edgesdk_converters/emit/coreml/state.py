"""What the lowerings of one Core ML function share: its values, sizes, constants in the compute type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk_converters.emit.coreml.mil_package import (
    Compute,
    MilBuilder,
    MilFunction,
    MilValue,
    core_ml_name,
)
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.ops import Shape
from edgesdk_converters.graph.rotary import rotary_table, table_name
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights


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
                table = self.function.constant(f"rotary.{kind}.{table_name(rotary)}", make)
                rows = self.mb.gather(x=table, indices=self.value("positions"), axis=0)
                pair.append(self.mb.expand_dims(x=rows, axes=[1]))
            self._gathered[rotary] = (pair[0], pair[1])
        return self._gathered[rotary]
