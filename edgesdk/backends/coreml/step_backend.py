"""The step graph of a Core ML package as a step backend, whatever runs the package.

It turns the host's float32 arrays into the package's inputs and back; the predictor does the rest.
Cells are handed over whole on every step, which Core ML copies: on a Mac this is a way to check and
compare, while apps keep their cells in float16 arrays that Core ML reads in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.coreml.mil_program import Array, TensorType
from edgesdk.backends.protocol import Cells, StepBuffers, float_cells
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.errors import DeviceError

LOWEST_MASK = np.float32(-30000)
"""What masked entries become: float16 has it, adding a score cannot take it to infinity, and its
exponential is 0."""


class Predictor(Protocol):
    """Runs the functions of one package."""

    def inputs(self, function: str) -> Mapping[str, TensorType]:
        """Types of a function's inputs."""

    def predict(self, function: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Outputs of a function by name; floating point inputs may be of another type than declared."""


class CoreMLStepBackend:
    """Runs the functions of a Core ML package; implements `StepBackend`."""

    cell_type: CellType = "float32"

    def __init__(self, predictor: Predictor, spec: DecoderSpec, shapes: tuple[StepShape, ...]) -> None:
        """Checks that the package has the inputs that the manifest promises.

        Raises:
            DeviceError: it has not.
        """
        self._predictor = predictor
        self._spec = spec
        self._shapes = tuple(sorted(shapes))
        self._buffers: dict[StepShape, StepBuffers] = {}
        if not shapes:
            raise DeviceError("the variant has no step sizes; convert the bundle again")
        for shape in self._shapes:
            found = {name: kind.shape for name, kind in predictor.inputs(shape.signature).items()}
            expected = _input_shapes(spec, shape)
            if found != expected:
                odd = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))[0]
                raise DeviceError(
                    f"function {shape.signature!r} has the input {odd!r} as {found.get(odd)}, its manifest "
                    f"says {expected.get(odd)}; convert the bundle again"
                )

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""
        if shape not in self._buffers:
            self._buffers[shape] = allocate_buffers(self._spec, shape)
        return self._buffers[shape]

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Args:
            shape: one of `shapes`.
            cells: (L, 2, K, S, D) float32; read, never written.

        Raises:
            DeviceError: Core ML failed, or the cells have another shape or type.
        """
        cells = float_cells(cells, "coreml")
        arrays = self.buffers(shape)
        inputs: dict[str, NDArray[np.generic]] = {
            "tokens": arrays.tokens,
            "positions": arrays.positions,
            "mask": np.maximum(arrays.mask, LOWEST_MASK),
        }
        if arrays.window_mask is not None:
            inputs["window_mask"] = np.maximum(arrays.window_mask, LOWEST_MASK)
        if shape.tokens > 1:
            inputs["rows"] = arrays.rows
        layers = range(len(self._spec.layers))
        for layer in layers:
            for i, kind in enumerate("kv"):
                inputs[f"{kind}_cache_{layer}"] = cells[layer, i]
        outputs = self._predictor.predict(shape.signature, inputs)
        try:
            arrays.logits[:] = outputs["logits"]
            for layer in layers:
                for i, kind in enumerate("kv"):
                    arrays.kv_new[layer, i] = outputs[f"{kind}_new_{layer}"]
        except (KeyError, ValueError) as error:
            raise DeviceError(f"function {shape.signature!r} gave other outputs: {error}") from error

    def close(self) -> None:
        """Releases the arrays."""
        self._buffers.clear()


def _input_shapes(spec: DecoderSpec, shape: StepShape) -> dict[str, tuple[int, ...]]:
    T, S = shape.tokens, shape.cells
    shapes: dict[str, tuple[int, ...]] = {"tokens": (T,), "positions": (T,), "mask": (T, S + T)}
    if spec.window is not None:
        shapes["window_mask"] = (T, S + T)
    if T > 1:
        shapes["rows"] = (shape.rows,)
    for layer in range(len(spec.layers)):
        for kind in "kv":
            shapes[f"{kind}_cache_{layer}"] = (spec.kv_heads, S, spec.head_size)
    return shapes
