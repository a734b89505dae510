"""The classic TensorFlow Lite interpreter as a step backend: for boards without CompiledModel.

Runs LiteRT variants under `ai_edge_litert` or, where that has no wheel, those of `litert-static` under
`tflite_runtime` 2.14. Cells are copied into the interpreter's arena on every step, and every size packs its
own weights: right results, more time and memory than `compiled`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.litert.cell_inputs import (
    MASKS,
    cell_input_names,
    cell_views,
    check_cell_inputs,
    turn_mask,
)
from edgesdk.backends.native_log import caught_native_log
from edgesdk.backends.protocol import Cells, StepBuffers
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.errors import DeviceError

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
        spec: DecoderSpec,
        shapes: tuple[StepShape, ...],
        *,
        threads: int,
        package: Package,
        cell_type: CellType = "float32",
    ) -> None:
        """Loads a model.

        Args:
            path: the LiteRT file.
            spec: shape of the decoder.
            shapes: sizes of the file's signatures.
            threads: CPU threads.
            package: whose interpreter.
            cell_type: how the file's cells are stored.

        Raises:
            DeviceError: the package is missing or refused the file.
        """
        self._spec = spec
        self.cell_type: CellType = cell_type
        """How the cells that it reads are stored."""
        self._shapes = tuple(sorted(shapes))
        self._buffers: dict[StepShape, StepBuffers] = {}
        self._runners: dict[str, Callable[..., Outputs]] = {}
        module = _interpreter_module(package)
        try:
            with caught_native_log():
                self._interpreter = module.Interpreter(str(path), num_threads=threads)
        except (RuntimeError, ValueError) as error:
            found = f"{package} {version(package)} cannot load {path.name}"
            if package == "tflite_runtime" and _PRODUCT in str(error):
                raise DeviceError(f"{found}: {_NEW_PRODUCTS}") from error
            raise DeviceError(f"{found}: {error}") from error
        turns_of(self).guard(self._interpreter)
        self._check_inputs(self._shapes[0].signature)

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""
        if shape not in self._buffers:
            self._buffers[shape] = allocate_buffers(self._spec, shape, self.cell_type)
        return self._buffers[shape]

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Raises:
            DeviceError: the interpreter failed, or the cells have another type than the file's.
        """
        arrays = self.buffers(shape)
        inputs: dict[str, NDArray[np.generic]] = {
            "tokens": arrays.tokens,
            "positions": arrays.positions,
        }
        for name, mask in zip(MASKS, (arrays.mask, arrays.window_mask), strict=True):
            if mask is not None:
                inputs[name] = turned = np.empty_like(mask)
                turn_mask(mask, turned)
        if self._interpreter is None:
            raise DeviceError("the interpreter was closed; load the model again")
        if shape.tokens > 1:
            inputs["rows"] = arrays.rows
        layers = range(len(self._spec.layers))
        names = cell_input_names(len(layers), self.cell_type)
        inputs.update(zip(names, cell_views(cells, self.cell_type), strict=True))
        try:
            runner = self._runners.get(shape.signature)
            outputs = self._first_run(shape.signature, inputs) if runner is None else runner(**inputs)
        except (KeyError, RuntimeError, ValueError) as error:
            raise DeviceError(f"the interpreter failed in step {shape.signature}: {error}") from error
        arrays.logits[:] = outputs["logits"]
        for layer in layers:
            arrays.kv_new[layer, 0] = outputs[f"k_new.{layer}"]
            arrays.kv_new[layer, 1] = outputs[f"v_new.{layer}"]

    def _first_run(self, signature: str, inputs: Mapping[str, NDArray[np.generic]]) -> Outputs:
        """The delegate is made with the first run of a signature, and says so on the terminal."""
        self._check_inputs(signature)
        with caught_native_log():
            runner = self._runners[signature] = self._interpreter.get_signature_runner(signature)
            outputs: Outputs = runner(**inputs)
        return outputs

    def _check_inputs(self, signature: str) -> None:
        found = self._interpreter.get_signature_list().get(signature)
        if found is None:
            raise DeviceError(f"the LiteRT file has no signature {signature!r}; convert it again")
        check_cell_inputs(found["inputs"], len(self._spec.layers), self.cell_type)

    def close(self) -> None:
        """Releases the model."""
        turns_of(self).forget()
        self._interpreter = None
        self._runners.clear()
        self._buffers.clear()


def _interpreter_module(package: Package) -> ModuleType:
    try:
        return import_module(f"{package}.interpreter")
    except ImportError as error:
        raise DeviceError(f"{package} cannot be imported: {error}") from error
