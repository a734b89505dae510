"""OpenVINO with `onnx-step` models, on Intel's and other CPUs, GPUs and NPUs: one compiled model a file.

Arrays of steps and cells are the host's, handed over in place. A file of open sizes (target `openvino`) is
compiled once and run in every size; one with a file for each size (`onnx-step`) is compiled for each that is
used. Compiled models are kept in the cache folder. It knows nothing of sequences.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

from edgesdk.backends.cell_arrays import cell_views, check_cells
from edgesdk.backends.check_variant import checked
from edgesdk.backends.native_log import caught_native_log
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.backends.protocol import Array, Cells, StepBuffers
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.manifest import DeviceClass, StepShape, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_names import onnx_tensors
from edgesdk.devices.import_openvino import import_openvino
from edgesdk.errors import DeviceError, MissingExtra, first_line

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest, Output

NAME = "openvino"
_DEVICES: Mapping[DeviceClass, str] = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
_FLOAT_RECIPES = frozenset({"f32"})
"""Recipes whose results are those of float32 arithmetic, which OpenVINO keeps to only where it is told so."""

_UNUSED_S = 60 * 86400
"""Compiled models that nobody has loaded for so long go when another is kept."""


@checked
def open_openvino(request: OpenRequest) -> Opened:
    """Opens a step variant; its smallest size at once, so that a bad file is found here.

    Raises:
        DeviceError: OpenVINO has no such device, or refuses the file.
        MissingExtra: it is not installed.
    """
    backend = OpenVinoStepBackend(request.bundle, request.variant, request.device, threads=request.threads)
    backend.buffers(backend.shapes[0])
    return Opened(
        backend, f"OpenVINO {backend.device}", 1.0, weight_cache=backend.weight_cache, notes=backend.notes
    )


@dataclass
class _Size:
    """What running one size needs; `cells` are those that are set now, whose memory it does not keep."""

    request: InferRequest
    arrays: StepBuffers
    cells: ReferenceType[Cells] | None = None


class OpenVinoStepBackend:
    """Implements `StepBackend`."""

    def __init__(self, bundle: Bundle, variant: Variant, device: DeviceClass, *, threads: int) -> None:
        """Prepares a variant without opening any of its files.

        Args:
            bundle: the bundle.
            variant: one of its step variants.
            device: class of devices to run on.
            threads: CPU threads.

        Raises:
            DeviceError: OpenVINO cannot be loaded, or has no such device; or cells are not float32.
            MissingExtra: it is not installed.
        """
        require_float_cells(variant, NAME)
        try:
            with caught_native_log():
                self._openvino = import_openvino()
                self._core = self._openvino.Core()
                there = list(self._core.available_devices)
        except ModuleNotFoundError as error:
            raise MissingExtra("openvino", "openvino") from error
        except (ImportError, RuntimeError, OSError) as error:
            raise DeviceError(f"openvino cannot be loaded: {first_line(error)}") from error
        self.device = _DEVICES[device]
        """As OpenVINO calls it."""
        if not any(name.partition(".")[0] == self.device for name in there):
            raise DeviceError(f"openvino has no {self.device} here; it has {', '.join(there) or 'none'}")
        self.notes: tuple[str, ...] = ()
        """What the user should know, one line each."""
        self.weight_cache: str | None = None
        """Whether the compiled model was kept from before: `hit` or `built`; None where none is kept."""
        self._bundle = bundle
        self.contracts = step_contracts(bundle.manifest, variant)
        """What each stack takes and gives."""
        self._tensors = {stack: onnx_tensors(contract) for stack, contract in self.contracts.items()}
        self._arrays = StepArrays(self.contracts)
        self._folder = PurePosixPath(variant.entry).parent
        self._shapes = tuple(sorted(variant.steps))
        self._options = _options(self.device, threads, exact=variant.recipe in _FLOAT_RECIPES)
        self._models: dict[str, CompiledModel] = {}
        self._sizes: dict[StepShape, _Size] = {}

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size.

        Raises:
            DeviceError: OpenVINO refuses the file of that size.
        """
        return self._size(shape).arrays

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Args:
            shape: one of `shapes`.
            cells: float32, C-contiguous; read, never written.

        Raises:
            DeviceError: the cells have another shape or type, or OpenVINO failed.
        """
        size = self._size(shape)
        if size.cells is None or size.cells() is not cells:
            check_cells(cells, self.contracts[shape.stack], shape.cells, NAME)
            tensors = self._tensors[shape.stack].cells
            for tensor, view in zip(tensors, cell_views(tensors, cells), strict=True):
                self._set(size.request, tensor.name, view)
            size.cells = ref(cells)
        with _openvino_errors(f"failed in step {shape.signature}"):
            size.request.start_async()  # unlike infer, it copies no outputs
            size.request.wait()

    def runtime_operations(self) -> tuple[str, ...]:
        """Kinds of the operations that the compiled models run: what was fused is not there by its name."""
        return tuple(
            node.get_rt_info()["layerType"].astype(str)
            for model in self._models.values()
            for node in model.get_runtime_model().get_ops()
        )

    def close(self) -> None:
        """Releases the models."""
        turns_of(self).forget()
        self._sizes.clear()
        self._models.clear()
        self._arrays.clear()

    def _size(self, shape: StepShape) -> _Size:
        found = self._sizes.get(shape)
        if found is None:
            arrays = self._arrays.buffers(shape)
            with _openvino_errors(f"cannot prepare step {shape.signature}"):
                request = self._model(shape).create_infer_request()
            turns_of(self).guard(request)
            tensors = self._tensors[shape.stack]
            for port in (*tensors.inputs_of(shape), *tensors.ports_out):
                self._set(request, port.name, arrays.port(port.port.name))
            for tensor, new in zip(tensors.new, cell_views(tensors.new, arrays.kv_new), strict=True):
                self._set(request, tensor.name, new)
            found = self._sizes[shape] = _Size(request, arrays)
        return found

    def _set(self, request: InferRequest, name: str, array: Array) -> None:
        with _openvino_errors(f"does not take {name}"):
            request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))

    def _model(self, shape: StepShape) -> CompiledModel:
        found = self._models.get(shape.signature)
        if found is None:
            name = f"{shape.signature}.onnx"
            path = self._bundle.file(str(self._folder / name))
            with _openvino_errors(f"cannot load {name} on {self.device}"), caught_native_log():
                model = self._core.read_model(path)
                self._check(model.inputs, self._tensors[shape.stack].input_shapes(shape), name, "input")
                self._check(model.outputs, self._tensors[shape.stack].output_shapes(shape), name, "output")
                found = self._core.compile_model(model, self.device, {**self._options, **self._cache()})
            turns_of(self).guard(found)
            self._models[shape.signature] = found
        return found

    def _check(
        self, ports: Sequence[Output], expected: Mapping[str, tuple[int, ...]], file: str, kind: str
    ) -> None:
        """Compares a file with its manifest, before memory is made for it."""
        found = {port.get_any_name(): port.get_partial_shape() for port in ports}
        if set(found) != set(expected):
            odd = sorted(set(found) ^ set(expected))[0]
            raise DeviceError(f"{file} does not have the {kind}s of its manifest: {odd!r} differs")
        for name, shape in expected.items():
            if not found[name].compatible(self._openvino.PartialShape(list(shape))):
                raise DeviceError(f"{file} has the {kind} {name!r} as {found[name]}, expected {shape}")

    def _cache(self) -> dict[str, str]:
        """Where compiled models are kept: a folder for these files, this version and these options."""
        listed = self._bundle.manifest.files
        files = sorted(
            (name, record.sha256)
            for name, record in listed.items()
            if PurePosixPath(name).parent == self._folder
        )
        key = json.dumps([files, self._openvino.get_version(), self.device, self._options])
        try:
            folder = cache_folder() / "openvino" / hashlib.sha256(key.encode()).hexdigest()[:32]
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            if self.weight_cache is None:
                self.weight_cache = "hit" if any(folder.iterdir()) else "built"
            _sweep(folder.parent)
        except OSError as error:
            self.weight_cache = None
            self.notes = (f"compiled models are not kept: {error.strerror or error}",)
            return {}
        return {"CACHE_DIR": str(folder)}


def _sweep(folder: Path) -> None:
    """Removes what nobody has used for long."""
    for each in folder.iterdir():
        with suppress(OSError):
            if each.is_dir() and not each.is_symlink() and time.time() - each.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(each)


def _options(device: str, threads: int, *, exact: bool) -> dict[str, object]:
    """Settings of a compiled model."""
    options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if exact:
        options |= {"EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_PRECISION_HINT": "f32"}
    return options


@contextmanager
def _openvino_errors(what: str) -> Iterator[None]:
    """Turns exceptions of OpenVINO inside the block into `DeviceError`."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # The first lines say where in its source it was.
        told = next((line for line in lines if not line.startswith(("Exception from", "Check "))), "")
        raise DeviceError(f"openvino {what}: {told or first_line(error)}") from error
