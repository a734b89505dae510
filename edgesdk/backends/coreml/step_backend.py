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

from edgesdk.backends.cell_arrays import cell_views, check_cells
from edgesdk.backends.coreml.mil_program import Array, TensorType
from edgesdk.backends.protocol import Cells, StepBuffers
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_names import coreml_tensors
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

    def __init__(
        self, predictor: Predictor, contracts: Mapping[str, StepContract], shapes: tuple[StepShape, ...]
    ) -> None:
        """Checks that the package has the inputs that the manifest promises.

        Args:
            predictor: runs the package.
            contracts: what each stack takes and gives, with float32 cells.
            shapes: sizes of its functions.

        Raises:
            DeviceError: it has not.
        """
        self._predictor = predictor
        self.contracts = contracts
        """What each stack takes and gives."""
        self._tensors = {stack: coreml_tensors(contract) for stack, contract in contracts.items()}
        self._shapes = tuple(sorted(shapes))
        self._arrays = StepArrays(contracts)
        if not shapes:
            raise DeviceError("the variant has no step sizes; convert the bundle again")
        for shape in self._shapes:
            found = {name: kind.shape for name, kind in predictor.inputs(shape.signature).items()}
            expected = self._tensors[shape.stack].input_shapes(shape)
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
        return self._arrays.buffers(shape)

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Args:
            shape: one of `shapes`.
            cells: float32; read, never written.

        Raises:
            DeviceError: Core ML failed, or the cells have another shape or type.
        """
        check_cells(cells, self.contracts[shape.stack], shape.cells, "coreml")
        arrays, tensors = self.buffers(shape), self._tensors[shape.stack]
        inputs: dict[str, NDArray[np.generic]] = {}
        for tensor in tensors.inputs_of(shape):
            array = arrays.port(tensor.port.name)
            inputs[tensor.name] = np.maximum(array, LOWEST_MASK) if tensor.port.is_mask else array
        for cell, view in zip(tensors.cells, cell_views(tensors.cells, cells), strict=True):
            inputs[cell.name] = view
        outputs = self._predictor.predict(shape.signature, inputs)
        try:
            for tensor in tensors.ports_out:
                _copy(outputs[tensor.name], arrays.port(tensor.port.name))
            for new, view in zip(tensors.new, cell_views(tensors.new, arrays.kv_new), strict=True):
                _copy(outputs[new.name], view)
        except (KeyError, ValueError) as error:
            raise DeviceError(f"function {shape.signature!r} gave other outputs: {error}") from error

    def close(self) -> None:
        """Releases the arrays."""
        self._arrays.clear()


def _copy(given: NDArray[np.generic], array: NDArray[np.generic]) -> None:
    """Copies an output; a smaller one would be repeated until it fits."""
    if np.shape(given) != array.shape:
        raise ValueError(f"an output has the shape {np.shape(given)}, expected {array.shape}")
    array[...] = given
