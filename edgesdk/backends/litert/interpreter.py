"""The classic TensorFlow Lite interpreter as a step backend: for boards without CompiledModel.

Runs LiteRT variants under `ai_edge_litert` or, where that has no wheel, `tflite_runtime` 2.14. Cells
are copied into the interpreter's arena on every step, and every size packs its own weights: right
results, more time and memory than `compiled`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Literal

from edgesdk.backends.native_log import caught_native_log
from edgesdk.backends.protocol import Float, StepBuffers
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import DeviceError

Package = Literal["ai_edge_litert", "tflite_runtime"]


class InterpreterStepBackend:
    """Runs the step graph with the Interpreter API."""

    def __init__(
        self, path: Path, spec: DecoderSpec, shapes: tuple[StepShape, ...], *, threads: int, package: Package
    ) -> None:
        """Loads a model.

        Args:
            path: the LiteRT file.
            spec: shape of the decoder.
            shapes: sizes of the file's signatures.
            threads: CPU threads.
            package: whose interpreter.

        Raises:
            DeviceError: the package is missing or refused the file.
        """
        self._spec = spec
        self._shapes = tuple(sorted(shapes))
        self._buffers: dict[StepShape, StepBuffers] = {}
        self._runners: dict[StepShape, object] = {}
        module = _interpreter_module(package)
        try:
            with caught_native_log():
                self._interpreter = module.Interpreter(str(path), num_threads=threads)
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"{package} {version(package)} cannot load {path.name}: {error}") from error

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""
        if shape not in self._buffers:
            self._buffers[shape] = allocate_buffers(self._spec, shape)
        return self._buffers[shape]

    def run(self, shape: StepShape, cells: Float) -> None:
        """Runs one step on what `buffers(shape)` holds."""
        arrays = self.buffers(shape)
        inputs = {"tokens": arrays.tokens, "positions": arrays.positions, "mask": arrays.mask}
        if arrays.window_mask is not None:
            inputs["window_mask"] = arrays.window_mask
        if shape.tokens > 1:
            inputs["rows"] = arrays.rows
        layers = range(len(self._spec.layers))
        for layer in layers:
            inputs[f"k_cache.{layer}"], inputs[f"v_cache.{layer}"] = cells[layer]
        try:
            if shape not in self._runners:
                with caught_native_log():
                    self._runners[shape] = self._interpreter.get_signature_runner(shape.signature)
            outputs = self._runners[shape](**inputs)  # type: ignore[operator]
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"the interpreter failed in step {shape.signature}: {error}") from error
        arrays.logits[:] = outputs["logits"]
        for layer in layers:
            arrays.kv_new[layer, 0] = outputs[f"k_new.{layer}"]
            arrays.kv_new[layer, 1] = outputs[f"v_new.{layer}"]

    def close(self) -> None:
        """Releases the model."""
        self._runners.clear()
        self._buffers.clear()


def _interpreter_module(package: Package) -> ModuleType:
    try:
        return import_module(f"{package}.interpreter")
    except ImportError as error:
        raise DeviceError(f"{package} cannot be imported: {error}") from error
