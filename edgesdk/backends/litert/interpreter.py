"""The classic TensorFlow Lite interpreter as a step backend: for boards without CompiledModel.

Runs LiteRT variants under `ai_edge_litert` or, where that has no wheel, those of `litert-static` under
`tflite_runtime` 2.14. Cells are copied into the interpreter's arena on every step, and every size packs its
own weights: right results, more time and memory than `compiled`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.cell_arrays import cell_views, check_cells
from edgesdk.backends.litert.cell_inputs import check_cell_inputs, turn_mask
from edgesdk.backends.litert.forms import forms_here
from edgesdk.backends.native_log import caught_native_log
from edgesdk.backends.protocol import Cells, StepBuffers
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_names import StepTensors, has_few_columns, litert_tensors
from edgesdk.errors import DeviceError
from edgesdk.version import package_version

Package = Literal["ai_edge_litert", "tflite_runtime"]
Outputs = Mapping[str, NDArray[np.float32]]

_PRODUCT = "FULLY_CONNECTED"
# By their version it refuses files with a scale per channel, which it would answer with zeros
# (docs/decisions/0003).
_NEW_PRODUCTS = (
    "it knows int8 products with one scale only, and the file's have a scale per channel or 4 bits; convert "
    "with --target litert-static and an int8 or float recipe"
)


class InterpreterStepBackend:
    """Runs the step graph with the Interpreter API."""

    def __init__(
        self,
        path: Path,
        contracts: Mapping[str, StepContract],
        shapes: tuple[StepShape, ...],
        *,
        threads: int,
        package: Package,
    ) -> None:
        """Loads a model.

        Args:
            path: the LiteRT file.
            contracts: what each stack takes and gives.
            shapes: sizes of the file's signatures.
            threads: CPU threads.
            package: whose interpreter.

        Raises:
            DeviceError: the package is missing or refused the file.
        """
        self.contracts = contracts
        """What each stack takes and gives."""
        self._tensors: dict[str, StepTensors] = {}
        self._shapes = tuple(sorted(shapes))
        self._arrays = StepArrays(contracts)
        self._runners: dict[str, Callable[..., Outputs]] = {}
        module = _interpreter_module(package)
        try:
            with caught_native_log():
                self._interpreter = module.Interpreter(str(path), num_threads=threads)
        except (RuntimeError, ValueError) as error:
            found = f"{package} {package_version(package)} cannot load {path.name}"
            if package == "tflite_runtime" and _PRODUCT in str(error):
                raise DeviceError(f"{found}: {_NEW_PRODUCTS}") from error
            raise DeviceError(f"{found}: {error}") from error
        turns_of(self).guard(self._interpreter)
        self._names = frozenset(self._interpreter.get_signature_list())
        self._tensors_of(self._shapes[0])

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""
        return self._arrays.buffers(shape)

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Raises:
            DeviceError: the interpreter failed, or the cells have another type than the file's.
        """
        if self._interpreter is None:
            raise DeviceError("the interpreter was closed; load the model again")
        arrays, tensors = self.buffers(shape), self._tensors_of(shape)
        check_cells(cells, self.contracts[shape.stack], shape.cells, "the LiteRT file")
        inputs: dict[str, NDArray[np.generic]] = {}
        for tensor in tensors.inputs_of(shape):
            inputs[tensor.name] = array = arrays.port(tensor.port.name)
            if tensor.new_first:
                inputs[tensor.name] = turned = np.empty(tensor.shape(shape), array.dtype)
                turn_mask(array, turned)
        for cell, view in zip(tensors.cells, cell_views(tensors.cells, cells), strict=True):
            inputs[cell.name] = view
        try:
            runner = self._runners.get(self._signature(shape))
            outputs = self._first_run(shape, inputs) if runner is None else runner(**inputs)
        except (KeyError, RuntimeError, ValueError) as error:
            raise DeviceError(f"the interpreter failed in step {shape.signature}: {error}") from error
        for tensor in tensors.ports_out:
            arrays.port(tensor.port.name)[...] = outputs[tensor.name]
        for new, view in zip(tensors.new, cell_views(tensors.new, arrays.kv_new), strict=True):
            view[...] = outputs[new.name]

    def _first_run(self, shape: StepShape, inputs: Mapping[str, NDArray[np.generic]]) -> Outputs:
        """The delegate is made with the first run of a signature, and says so on the terminal."""
        with caught_native_log():
            name = self._signature(shape)
            runner = self._runners[name] = self._interpreter.get_signature_runner(name)
            outputs: Outputs = runner(**inputs)
        return outputs

    def _tensors_of(self, shape: StepShape) -> StepTensors:
        """What a signature takes and gives; refused where its inputs are others."""
        name = self._signature(shape)
        if name in self._tensors:
            return self._tensors[name]
        found = self._interpreter.get_signature_list().get(name)
        if found is None:
            raise DeviceError(f"the LiteRT file has no signature {shape.signature!r}; convert it again")
        contract = self.contracts[shape.stack]
        tensors = litert_tensors(contract, few=has_few_columns(found["inputs"]))
        check_cell_inputs(found["inputs"], tensors, contract.cell_type)
        self._tensors[name] = tensors
        return tensors

    def _signature(self, shape: StepShape) -> str:
        """Name of the signature that runs a size, in the form for this processor."""
        return forms_here().name(shape, self._names.__contains__)

    def close(self) -> None:
        """Releases the model."""
        turns_of(self).forget()
        self._interpreter = None
        self._runners.clear()
        self._arrays.clear()


def _interpreter_module(package: Package) -> ModuleType:
    try:
        return import_module(f"{package}.interpreter")
    except ImportError as error:
        raise DeviceError(f"{package} cannot be imported: {error}") from error
