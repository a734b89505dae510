"""ONNX Runtime with the `step` models: a session per size, inputs and outputs bound in place.

It supports every size of a step variant, on the CPU or on one execution provider. Sessions are opened
when their size is first used and map one data file. It knows nothing of sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.check_variant import checked
from edgesdk.backends.onnxruntime_provider import Provider, assigned_share, profiled_share
from edgesdk.backends.onnxruntime_session import PROVIDER, check_inputs, onnxruntime_errors, open_session
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.backends.protocol import Cells, Float, StepBuffers, float_cells
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.drafts import scratch_folder
from edgesdk.bundle.manifest import CellType, StepShape, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.errors import DeviceError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding


@checked
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
    """What running one size needs; `cells` is the address that is bound now.

    The binding comes first, so that it goes first: it frees what the session's provider has allocated.
    """

    binding: IOBinding
    session: InferenceSession
    arrays: StepBuffers
    cells: int | None = None


class OnnxStepBackend:
    """Runs step models with ONNX Runtime; implements `StepBackend`."""

    cell_type: CellType = "float32"

    def __init__(
        self, bundle: Bundle, variant: Variant, *, threads: int, provider: Provider | None = None
    ) -> None:
        """Prepares a variant without opening any of its files.

        Args:
            bundle: the bundle.
            variant: one of its step variants.
            threads: CPU threads.
            provider: execution provider; None for the CPU's.

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
        self._provider = provider
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
        copies = self._provider is not None and self._provider.copies
        if copies:
            _bind_inputs(size.binding, size.arrays)
        if copies or size.cells != cells.ctypes.data:
            self._bind_cells(size, shape, cells)
        with onnxruntime_errors(f"failed in step {shape.signature}"):
            size.session.run_with_iobinding(size.binding)

    def accelerated_share(self) -> float | None:
        """Share of the smallest size's nodes on the provider: as recorded, or else profiled with one run."""
        if self._provider is None:
            return 1.0
        found = assigned_share(self._size(self._shapes[0]).session, self._provider)
        return found if found is not None else self._profiled_share(self._provider)

    def close(self) -> None:
        """Releases the models."""
        turns_of(self).forget()
        self._sizes.clear()

    def _profiled_share(self, provider: Provider) -> float | None:
        """Runs zeros through another session of the smallest size, so that no later step is slowed."""
        with scratch_folder() as folder:
            path = self._path(self._shapes[0])
            session = open_session(path, self._threads, provider, profile=Path(folder, "run"))
            zeros = {
                value.name: np.zeros(value.shape, np.int32 if "int32" in value.type else np.float32)
                for value in session.get_inputs()
            }
            with onnxruntime_errors(f"failed in step {self._shapes[0].signature}"):
                session.run(None, zeros)
                profile = Path(session.end_profiling())
            return profiled_share(profile, provider)

    def _path(self, shape: StepShape) -> Path:
        return self._bundle.file(str(self._folder / f"{shape.signature}.onnx"))

    def _size(self, shape: StepShape) -> _Size:
        if shape not in self._sizes:
            path = self._path(shape)
            session = open_session(path, self._threads, self._provider)
            turns_of(self).guard(session)
            check_inputs(session, path, _input_shapes(self._spec, shape))
            arrays = allocate_buffers(self._spec, shape)
            binding = session.io_binding()
            _bind_inputs(binding, arrays)
            _bind_output(binding, "logits", arrays.logits)
            for layer in range(len(self._spec.layers)):
                for i, kind in enumerate("kv"):
                    _bind_output(binding, f"{kind}_new.{layer}", arrays.kv_new[layer, i])
            self._sizes[shape] = _Size(binding, session, arrays)
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


def _bind_inputs(binding: IOBinding, arrays: StepBuffers) -> None:
    for name in ("tokens", "positions", "mask", "window_mask", "rows"):
        array = getattr(arrays, name)
        if array is not None:
            _bind_input(binding, name, array)


def _bind_input(binding: IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _bind_output(binding: IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
