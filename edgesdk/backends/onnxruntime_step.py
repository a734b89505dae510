"""ONNX Runtime with the `step` models: a session per file, inputs and outputs bound in place.

It supports every size of a step variant, on the CPU or on one execution provider: sizes with files of their
own, or of one file that is open. Sessions are opened when their size is first used and map one data file. It
knows nothing of sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.cell_arrays import cell_views, check_cells
from edgesdk.backends.check_variant import checked
from edgesdk.backends.onnxruntime_provider import Provider, assigned_share, profiled_share
from edgesdk.backends.onnxruntime_session import (
    PROVIDER,
    check_inputs,
    check_outputs,
    onnxruntime_errors,
    open_session,
)
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.backends.protocol import Cells, StepBuffers
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.drafts import scratch_folder
from edgesdk.bundle.manifest import StepShape, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_names import onnx_tensors
from edgesdk.bundle.step_shape import smallest_step
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
    backend.buffers(smallest_step(backend.shapes))
    note = "weights are unpacked on every step: this variant is meant for NPUs"
    return Opened(backend, PROVIDER, 1.0, notes=(note,))


@dataclass
class _Size:
    """What running one size needs; `cells` are those that are bound now, whose memory it does not keep.

    The binding comes first, so that it goes first: it frees what the session's provider has allocated.
    """

    binding: IOBinding
    session: InferenceSession
    arrays: StepBuffers
    cells: ReferenceType[Cells] | None = None


class OnnxStepBackend:
    """Runs step models with ONNX Runtime; implements `StepBackend`."""

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
        self.contracts = step_contracts(bundle.manifest, variant)
        """What each stack takes and gives."""
        self._tensors = {stack: onnx_tensors(contract) for stack, contract in self.contracts.items()}
        self._arrays = StepArrays(self.contracts)
        self._folder = PurePosixPath(variant.entry).parent
        self._shapes = tuple(sorted(variant.steps))
        self._threads = threads
        self._provider = provider
        self._sizes: dict[StepShape, _Size] = {}
        self._sessions: dict[Path, InferenceSession] = {}

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
            cells: float32, C-contiguous and 64-byte aligned; read, never written.

        Raises:
            DeviceError: the cells have another shape or type, or onnxruntime failed.
        """
        size = self._size(shape)
        copies = self._provider is not None and self._provider.copies
        if copies:
            self._bind_inputs(size, shape)
        if copies or size.cells is None or size.cells() is not cells:
            self._bind_cells(size, shape, cells)
        with onnxruntime_errors(f"failed in step {shape.signature}"):
            size.session.run_with_iobinding(size.binding)

    def accelerated_share(self) -> float | None:
        """Share of the smallest size's nodes on the provider: as recorded, or else profiled with one run."""
        if self._provider is None:
            return 1.0
        found = assigned_share(self._size(smallest_step(self._shapes)).session, self._provider)
        return found if found is not None else self._profiled_share(self._provider)

    def close(self) -> None:
        """Releases the models."""
        turns_of(self).forget()
        self._sizes.clear()
        self._sessions.clear()
        self._arrays.clear()

    def _profiled_share(self, provider: Provider) -> float | None:
        """Runs zeros through another session of the smallest size, so that no later step is slowed."""
        with scratch_folder() as folder:
            path = self._path(smallest_step(self._shapes))
            session = open_session(path, self._threads, provider, profile=Path(folder, "run"))
            shapes = self._tensors[self._shapes[0].stack].input_shapes(self._shapes[0])
            zeros = {
                value.name: np.zeros(shapes[value.name], np.int32 if "int32" in value.type else np.float32)
                for value in session.get_inputs()
            }
            with onnxruntime_errors(f"failed in step {smallest_step(self._shapes).signature}"):
                session.run(None, zeros)
                profile = Path(session.end_profiling())
            return profiled_share(profile, provider)

    def _path(self, shape: StepShape) -> Path:
        return self._bundle.file(str(self._folder / f"{shape.signature}.onnx"))

    def _size(self, shape: StepShape) -> _Size:
        if shape not in self._sizes:
            path = self._path(shape)
            session = self._sessions.get(path)
            if session is None:
                session = self._sessions[path] = open_session(path, self._threads, self._provider)
                turns_of(self).guard(session)
            tensors = self._tensors[shape.stack]
            check_inputs(session, path, tensors.input_shapes(shape))
            check_outputs(session, path, tensors.output_shapes(shape))
            arrays = self._arrays.buffers(shape)
            size = _Size(session.io_binding(), session, arrays)
            self._bind_inputs(size, shape)
            for port in tensors.ports_out:
                _bind_output(size.binding, port.name, arrays.port(port.port.name))
            for tensor, new in zip(tensors.new, cell_views(tensors.new, arrays.kv_new), strict=True):
                _bind_output(size.binding, tensor.name, new)
            self._sizes[shape] = size
        return self._sizes[shape]

    def _bind_inputs(self, size: _Size, shape: StepShape) -> None:
        for tensor in self._tensors[shape.stack].inputs_of(shape):
            _bind_input(size.binding, tensor.name, size.arrays.port(tensor.port.name))

    def _bind_cells(self, size: _Size, shape: StepShape, cells: Cells) -> None:
        check_cells(cells, self.contracts[shape.stack], shape.cells, "onnxruntime-step")
        tensors = self._tensors[shape.stack].cells
        for tensor, view in zip(tensors, cell_views(tensors, cells), strict=True):
            _bind_input(size.binding, tensor.name, view)
        size.cells = ref(cells)


def _bind_input(binding: IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _bind_output(binding: IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
