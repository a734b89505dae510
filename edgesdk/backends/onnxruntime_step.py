"""ONNX Runtime with the `step` models: a session per size, inputs and outputs bound in place.

It supports every size of a step variant on CPU. Sessions are opened when their size is first used
and map one data file. It knows nothing of sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.onnxruntime_session import PROVIDER, check_inputs, onnxruntime_errors, open_session
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.backends.protocol import Cells, Float, StepBuffers, float_cells
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.errors import DeviceError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding


def open_step(request: OpenRequest) -> Opened:
    """Opens a step variant; its smallest size at once, so that a bad file is found here.

    Raises:
        DeviceError: onnxruntime is missing or refuses it.
    """
    backend = OnnxStepBackend(request.bundle, request.variant, threads=request.threads)
    backend.buffers(backend.shapes[0])
    note = "weights are unpacked on every step: this variant is meant for NPUs"
    return Opened(backend, PROVIDER, 1.0, notes=(note,))


@dataclass
class _Size:
    """What running one size needs; `cells` is the address that is bound now."""

    session: InferenceSession
    binding: IOBinding
    arrays: StepBuffers
    cells: int | None = None


class OnnxStepBackend:
    """Runs step models with ONNX Runtime; implements `StepBackend`."""

    cell_type: CellType = "float32"

    def __init__(self, bundle: Bundle, variant: Variant, *, threads: int) -> None:
        """Prepares a variant without opening any of its files.

        Raises:
            DeviceError: the variant has no sizes, or its cells are int8.
        """
        require_float_cells(variant, "onnxruntime-step")
        if not variant.steps:
            raise DeviceError(f"variant {variant.name!r} has no step sizes; convert the bundle again")
        self._bundle = bundle
        self._spec = bundle.manifest.decoder_of(variant)
        self._folder = PurePosixPath(variant.entry).parent
        self._shapes = tuple(sorted(variant.steps))
        self._threads = threads
        self._sizes: dict[StepShape, _Size] = {}

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size.

        Raises:
            DeviceError: onnxruntime refuses the file of that size.
        """
        return self._size(shape).arrays

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Args:
            shape: one of `shapes`.
            cells: (L, 2, K, S, D) float32, C-contiguous and 64-byte aligned; read, never written.

        Raises:
            DeviceError: the cells have another shape or type, or onnxruntime failed.
        """
        cells = float_cells(cells, "onnxruntime-step")
        size = self._size(shape)
        if size.cells != cells.ctypes.data:
            self._bind_cells(size, shape, cells)
        with onnxruntime_errors(f"failed in step {shape.signature}"):
            size.session.run_with_iobinding(size.binding)

    def close(self) -> None:
        """Releases the models."""
        self._sizes.clear()

    def _size(self, shape: StepShape) -> _Size:
        if shape not in self._sizes:
            path = self._bundle.file(str(self._folder / f"{shape.signature}.onnx"))
            session = open_session(path, self._threads)
            check_inputs(session, path, _input_shapes(self._spec, shape))
            arrays = allocate_buffers(self._spec, shape)
            binding = session.io_binding()
            for name in ("tokens", "positions", "mask", "window_mask", "rows"):
                array = getattr(arrays, name)
                if array is not None:
                    _bind_input(binding, name, array)
            _bind_output(binding, "logits", arrays.logits)
            for layer in range(len(self._spec.layers)):
                for i, kind in enumerate("kv"):
                    _bind_output(binding, f"{kind}_new.{layer}", arrays.kv_new[layer, i])
            self._sizes[shape] = _Size(session, binding, arrays)
        return self._sizes[shape]

    def _bind_cells(self, size: _Size, shape: StepShape, cells: Float) -> None:
        spec = self._spec
        expected = (len(spec.layers), 2, spec.kv_heads, shape.cells, spec.head_size)
        if cells.shape != expected or not cells.flags.c_contiguous or cells.dtype != np.float32:
            raise DeviceError(
                f"cells are {cells.shape} {cells.dtype}, expected contiguous {expected} float32"
            )
        for layer in range(len(spec.layers)):
            for i, kind in enumerate("kv"):
                _bind_input(size.binding, f"{kind}_cache.{layer}", cells[layer, i])
        size.cells = cells.ctypes.data


def _input_shapes(spec: DecoderSpec, shape: StepShape) -> dict[str, tuple[int | None, ...]]:
    T, S = shape.tokens, shape.cells
    shapes: dict[str, tuple[int | None, ...]] = {
        "tokens": (T,),
        "positions": (T,),
        "mask": (T, S + T),
        "rows": (shape.rows,),
    }
    if spec.window is not None:
        shapes["window_mask"] = (T, S + T)
    for layer in range(len(spec.layers)):
        for kind in "kv":
            shapes[f"{kind}_cache.{layer}"] = (spec.kv_heads, S, spec.head_size)
    return shapes


def _bind_input(binding: IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _bind_output(binding: IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
