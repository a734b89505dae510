"""LiteRT's CompiledModel as a step backend: cells and results are read and written in place.

It supports every signature of a LiteRT variant, on the CPU (XNNPACK) or on the GPU. A signature that sizes
share is resized to the one that runs, which costs a few milliseconds whenever that changes
(docs/decisions/0012). Other threads of Python run meanwhile; whoever calls takes turns (`turns`). It knows
nothing of sequences.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES, aligned_array
from edgesdk.backends.cell_arrays import cell_views, check_cells
from edgesdk.backends.litert.cell_inputs import check_cell_inputs, turn_mask
from edgesdk.backends.litert.forms import Forms, forms_here
from edgesdk.backends.litert.gpu_library import refusal
from edgesdk.backends.litert.host_memory import HostBuffer, supported
from edgesdk.backends.litert.keep_signatures import signature_names
from edgesdk.backends.litert.native_model import NATIVE_LINES, Arguments, NativeModel
from edgesdk.backends.litert.signature_models import SignatureModels
from edgesdk.backends.litert.weight_cache import WeightCache
from edgesdk.backends.litert.wrapped_model import WrappedModel
from edgesdk.backends.native_log import caught_native_log, hush_the_end
from edgesdk.backends.protocol import Array, Cells, StepBuffers
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import NUMBER_BYTES, StepContract
from edgesdk.bundle.step_names import WIDE, PortTensor, StepTensors, has_few_columns, litert_tensors
from edgesdk.bundle.step_shape import MAIN, smallest_step
from edgesdk.errors import DeviceError, EdgeError

_BOUND_CELLS = 4
"""Cell arrays of a stack whose buffers are kept: a sequence has one, and leaves it when it grows."""

_Layout = tuple[int, int, int]
"""T, S and R that a signature has now."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Size:
    """What running one size needs.

    Attributes:
        index: of its signature.
        arrays: its arrays.
        turned: each mask, and the array that has it in the order of the file.
        inputs: for each input in order its buffer, or which of the buffers over cells goes there.
        outputs: buffers in the signature's order.
    """

    index: int
    arrays: StepBuffers
    turned: list[tuple[Array, Array]]
    inputs: tuple[HostBuffer | int, ...]
    outputs: list[HostBuffer]


@dataclasses.dataclass(frozen=True, eq=False)
class _Bound:
    """Cells that are bound, and what runs each size over them.

    Attributes:
        cells: kept, so that their address cannot pass to others meanwhile.
        buffers: over each layer's keys and values.
        arguments: by size.
    """

    cells: Cells
    buffers: list[HostBuffer]
    arguments: dict[StepShape, Arguments]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Ready:
    """What the last step ran with. The next one of a sequence mostly has the same size and cells.

    Attributes:
        shape: its size.
        cells: its cells.
        turned: as `_Size` has it.
        index: of the signature, which is laid out for this size.
        arguments: inputs and outputs.
    """

    shape: StepShape
    cells: Cells
    turned: list[tuple[Array, Array]]
    index: int
    arguments: Arguments


class CompiledStepBackend:
    """Runs the step graph with LiteRT's CompiledModel."""

    def __init__(
        self,
        path: Path,
        contracts: Mapping[str, StepContract],
        shapes: tuple[StepShape, ...],
        *,
        threads: int,
        weight_cache: WeightCache | None,
        device: Literal["cpu", "gpu"] = "cpu",
        forms: Forms | None = None,
    ) -> None:
        """Loads a model.

        Args:
            path: the LiteRT file.
            contracts: what each stack takes and gives.
            shapes: sizes of the file's signatures.
            threads: CPU threads.
            weight_cache: where packed weights are kept.
            device: where it runs; nothing falls back from a GPU.
            forms: of attention over float16 cells; None for those that suit this processor.

        Raises:
            DeviceError: LiteRT is missing, cannot bind host memory, or refused the file.
        """
        reason = supported()
        for shape in shapes:
            reason = reason or _unaligned(contracts[shape.stack], shape)
        if reason is not None:
            raise DeviceError(f"LiteRT cannot use host memory in place: {reason}")
        self.contracts = contracts
        """What each stack takes and gives."""
        self._tensors: dict[tuple[str, bool], StepTensors] = {}
        self._weight_cache = weight_cache  # LiteRT may ask for its name as long as the model is there
        self._shapes = tuple(sorted(shapes))
        self._forms = forms or (forms_here() if device == "cpu" else Forms(alone=False, few=False))
        self._model = self._load(path, threads, weight_cache, device)
        self._check_layout()
        self._started: set[int] = set()
        self._arrays = StepArrays(contracts)
        self._buffers: dict[int, HostBuffer] = {}
        self._laid = self._sizes_in_file()
        self._sizes: dict[StepShape, _Size] = {}
        self._turned: dict[tuple[str, int], Array] = {}
        self._bound: OrderedDict[tuple[object, ...], _Bound] = OrderedDict()
        self._ready: _Ready | None = None

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    @property
    def accelerated_share(self) -> float | None:
        """1.0 when every operation runs on the delegate; None when LiteRT only says that some do not."""
        return 1.0 if self._model.fully_accelerated else None

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""
        return self._size(shape).arrays

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Raises:
            DeviceError: LiteRT failed, or the cells have another type than the file's.
        """
        ready = self._ready
        if ready is None or ready.shape is not shape or ready.cells is not cells:
            ready = self._make_ready(shape, cells)
        for mask, turned in ready.turned:
            turn_mask(mask, turned)
        try:
            if ready.index in self._started:
                self._model.run(ready.index, ready.arguments)
            else:
                self._first_run(ready.index, ready.arguments)
        except RuntimeError as error:
            raise _failed(shape, error) from error

    def close(self) -> None:
        """Releases the model and its buffers, not the arrays."""
        self._model.close()
        if self._weight_cache is not None:
            self._weight_cache.release()
        self._sizes.clear()
        self._turned.clear()
        self._bound.clear()
        self._buffers.clear()
        self._arrays.clear()
        self._ready = None

    def _load(
        self, path: Path, threads: int, weight_cache: WeightCache | None, device: Literal["cpu", "gpu"]
    ) -> NativeModel | SignatureModels | WrappedModel:
        fatal = refusal()
        if fatal is not None:
            raise DeviceError(f"LiteRT cannot load {path.name}: {fatal}")
        if device == "gpu":
            return WrappedModel(path)
        try:
            model = self._open(path, threads, weight_cache)
            try:
                if weight_cache is not None:
                    weight_cache.finish()
            except EdgeError:
                model.close()
                raise
        except EdgeError:
            if weight_cache is not None:
                weight_cache.release()
            raise
        return model

    def _open(
        self, path: Path, threads: int, weight_cache: WeightCache | None
    ) -> NativeModel | SignatureModels:
        """Opens what is needed at once where packed weights are found, else all that may be needed.

        What is packed is kept for every variant of the file, so stacks of others are then opened, too.
        """
        packed, state = (None, None) if weight_cache is None else (weight_cache.path, weight_cache.state)
        named = set(signature_names(path))
        wanted = {shape: self._forms.name(shape, named.__contains__) for shape in self._shapes}
        if not named.issuperset(wanted.values()):  # which is said where it is used
            return NativeModel(path, threads=threads, weight_cache=packed)
        if state != "hit":
            kept = set(wanted.values())
            if packed is not None and state is None:  # what this packs may be kept
                kept |= {
                    name
                    for name in named.difference(shape.signature for shape in self._shapes)
                    if not name.endswith(WIDE)
                }
            return NativeModel(path, threads=threads, weight_cache=packed, signatures=kept)
        main = [shape for shape in self._shapes if shape.stack == MAIN] or self._shapes
        first = {wanted[shape] for shape in (main[0], main[-1])}
        return SignatureModels(path, first, threads=threads, weight_cache=packed)

    def _make_ready(self, shape: StepShape, cells: Cells) -> _Ready:
        """Looks up what a step needs, and gives its signature the size."""
        self._ready = None
        size = self._size(shape)
        bound = self._bind(shape, cells)
        arguments = bound.arguments.get(shape)
        if arguments is None:
            check_cells(cells, self.contracts[shape.stack], shape.cells, "the LiteRT file")
            inputs = [bound.buffers[place] if isinstance(place, int) else place for place in size.inputs]
            arguments = bound.arguments[shape] = Arguments(inputs, size.outputs)
        if self._laid.get(size.index) != _layout(shape):
            try:
                self._resize(size.index, _layout(shape), arguments)
            except RuntimeError as error:
                raise _failed(shape, error) from error
        self._ready = _Ready(shape, cells, size.turned, size.index, arguments)
        return self._ready

    def _first_run(self, index: int, arguments: Arguments) -> None:
        """LiteRT sets up a second environment with a first run, and talks of it then and at the end."""
        try:
            with caught_native_log(known=NATIVE_LINES):
                self._model.run(index, arguments)
        finally:  # an interruption is an end too
            hush_the_end()
        self._started.add(index)

    def _resize(self, index: int, size: _Layout, arguments: Arguments) -> None:
        """Gives the inputs of a signature the shapes of what they are bound to, and remembers the size."""
        self._laid.pop(index, None)  # some of them may have changed when one is refused
        self._model.resize(index, [buffer.shape for buffer in arguments.inputs])
        self._laid[index] = size

    def _sizes_in_file(self) -> dict[int, _Layout]:
        """The size of every signature that has one only, by index."""
        found: dict[int, set[_Layout]] = {}
        for shape in self._shapes:
            index = self._index(shape)
            found.setdefault(index, set()).add(_layout(shape))
        return {index: next(iter(sizes)) for index, sizes in found.items() if len(sizes) == 1}

    def _check_layout(self) -> None:
        """Refuses a C library whose structures are not the ones that `host_memory` fills."""
        first = smallest_step(self._shapes)
        index, inputs, tensors = self._inputs_of(first)
        largest = max(shape for shape in self._shapes if shape.signature == first.signature)
        mask = next(tensor for tensor in tensors.ports_in if tensor.port.name == "mask")
        found = self._model.input_shape(index, inputs.index(mask.name))
        expected = mask.shape(largest)
        if found != expected:
            raise DeviceError(f"LiteRT describes a mask of shape {expected} as {found}; its C API changed")

    def _index(self, shape: StepShape) -> int:
        """Index of the signature that runs a size, in the form for this processor."""
        return self._model.index(self._forms.name(shape, lambda name: self._model.index(name) >= 0))

    def _inputs_of(self, shape: StepShape) -> tuple[int, list[str], StepTensors]:
        """Index of a signature, its inputs, which are those that cells and masks need, and all tensors."""
        index = self._index(shape)
        if index < 0:
            raise DeviceError(f"the LiteRT file has no signature {shape.signature!r}; convert it again")
        names, _ = self._model.names(index)
        contract, few = self.contracts[shape.stack], has_few_columns(names)
        key = (shape.stack, few)
        if key not in self._tensors:
            self._tensors[key] = litert_tensors(contract, few=few)
        check_cell_inputs(names, self._tensors[key], contract.cell_type)
        return index, names, self._tensors[key]

    def _size(self, shape: StepShape) -> _Size:
        if shape not in self._sizes:
            self._sizes[shape] = self._prepare(shape)
        return self._sizes[shape]

    def _prepare(self, shape: StepShape) -> _Size:
        index, names, tensors = self._inputs_of(shape)
        arrays = self._arrays.buffers(shape)
        inputs: dict[str, HostBuffer | int] = {cell.name: i for i, cell in enumerate(tensors.cells)}
        turned = []
        for tensor in tensors.inputs_of(shape):
            array = arrays.port(tensor.port.name)
            if tensor.new_first:
                turned.append((array, self._turned_array(tensor, shape)))
                inputs[tensor.name] = HostBuffer(turned[-1][1])
            else:
                inputs[tensor.name] = self._buffer(array)
        unknown = [name for name in names if name not in inputs]
        if unknown:
            raise DeviceError(f"the LiteRT file wants {unknown[0]!r}, which nothing gives; convert it again")
        results = {tensor.name: arrays.port(tensor.port.name) for tensor in tensors.ports_out}
        for new, view in zip(tensors.new, cell_views(tensors.new, arrays.kv_new), strict=True):
            results[new.name] = view
        outputs = [self._buffer(results[name]) for name in self._model.names(index)[1]]
        return _Size(index, arrays, turned, tuple(inputs[name] for name in names), outputs)

    def _buffer(self, array: Array) -> HostBuffer:
        """The buffer over an array, the same for all sizes that share it."""
        key = array.ctypes.data
        found = self._buffers.get(key)
        if found is None or found.shape != array.shape:
            found = self._buffers[key] = HostBuffer(array)
        return found

    def _turned_array(self, tensor: PortTensor, shape: StepShape) -> Array:
        """Memory for a mask in the order of the file: written before every run, so all sizes share it."""
        T, width = tensor.shape(shape)
        memory = self._turned.get((tensor.name, T))
        if memory is None:
            most = max(tensor.shape(other)[1] for other in self._shapes if other.tokens == T)
            memory = self._turned[tensor.name, T] = aligned_array(tensor.dtype, T * most)
        return memory[: T * width].reshape(T, width)

    def _bind(self, shape: StepShape, cells: Cells) -> _Bound:
        """Buffers over each layer's keys and values, kept for the arrays used last."""
        contract = self.contracts[shape.stack]
        # Stacks that read the same groups read the same arrays.
        key = (contract.groups, cells.count, *(array.ctypes.data for array in cells.arrays))
        found = self._bound.pop(key, None)
        if found is None:
            check_cells(cells, contract, shape.cells, "the LiteRT file")
            views = cell_views(litert_tensors(contract).cells, cells)
            found = _Bound(cells, [HostBuffer(view) for view in views], {})
        elif found.cells is not cells:
            found = dataclasses.replace(found, cells=cells)
        self._bound[key] = found
        with_cells = sum(bool(contract.groups) for contract in self.contracts.values())
        while len(self._bound) > _BOUND_CELLS * with_cells:
            self._bound.popitem(last=False)
        return found


def _layout(shape: StepShape) -> _Layout:
    return shape.tokens, shape.cells, shape.rows


def _failed(shape: StepShape, error: RuntimeError) -> DeviceError:
    return DeviceError(f"LiteRT failed in step {shape.signature}: {error}")


def _unaligned(contract: StepContract, shape: StepShape) -> str | None:
    """Why some layer's cells, or what is new of it, would not start at whole lines; None if all do."""
    for group in contract.new:
        number_bytes = NUMBER_BYTES[group.dtype]
        if group.heads * math.prod(group.tail) * number_bytes % ALIGNMENT_BYTES:
            return (
                f"{group.heads} KV heads of {math.prod(group.tail)} with {number_bytes} bytes a number do "
                f"not fill whole {ALIGNMENT_BYTES}-byte lines"
            )
    for group in contract.groups:
        if group.heads * shape.cells * math.prod(group.tail) * NUMBER_BYTES[group.dtype] % ALIGNMENT_BYTES:
            return (
                f"{shape.cells} {contract.cell_type} cells of {group.heads} KV heads do not fill whole "
                f"{ALIGNMENT_BYTES}-byte lines"
            )
    return None
