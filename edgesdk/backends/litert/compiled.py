"""LiteRT's CompiledModel as a step backend: cells and results are read and written in place.

It supports every signature of a LiteRT variant, on the CPU (XNNPACK) or on the GPU. A signature that sizes
share is resized to the one that runs, which costs a few milliseconds whenever that changes
(docs/decisions/0012). Other threads of Python run meanwhile; whoever calls takes turns (`turns`). It knows
nothing of sequences.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import Literal

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES, aligned_floats
from edgesdk.backends.litert.cell_inputs import (
    MASKS,
    cell_input_names,
    cell_views,
    check_cell_inputs,
    turn_mask,
)
from edgesdk.backends.litert.gpu_library import refusal
from edgesdk.backends.litert.host_memory import HostBuffer, supported
from edgesdk.backends.litert.native_model import NATIVE_LINES, Arguments, NativeModel
from edgesdk.backends.litert.weight_cache import WeightCache
from edgesdk.backends.litert.wrapped_model import WrappedModel
from edgesdk.backends.native_log import caught_native_log, hush_the_end
from edgesdk.backends.protocol import Cells, Float, Int8Cells, StepBuffers
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.errors import DeviceError

_BOUND_CELLS = 4
"""Cell arrays whose buffers are kept: a sequence has one, and leaves it when it grows."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Signature:
    """What running one signature with some T needs, whatever S is.

    Attributes:
        index: of the signature.
        names: of its inputs, in order.
        arrays: numpy views of inputs and outputs, for the size that was wanted first.
        inputs: buffers of the inputs that do not depend on S, by name.
        outputs: buffers in the signature's order.
    """

    index: int
    names: list[str]
    arrays: StepBuffers
    inputs: dict[str, HostBuffer]
    outputs: list[HostBuffer]


@dataclasses.dataclass(frozen=True, eq=False)
class _Size:
    """What running one size needs.

    Attributes:
        signature: that runs it.
        arrays: those of the signature, with masks of this size.
        turned: each mask, and the array that has it in the order of the file.
        inputs: for each input in order its buffer, or which of the buffers over cells goes there.
    """

    signature: _Signature
    arrays: StepBuffers
    turned: list[tuple[Float, Float]]
    inputs: tuple[HostBuffer | int, ...]


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
    turned: list[tuple[Float, Float]]
    index: int
    arguments: Arguments


class CompiledStepBackend:
    """Runs the step graph with LiteRT's CompiledModel."""

    def __init__(
        self,
        path: Path,
        spec: DecoderSpec,
        shapes: tuple[StepShape, ...],
        *,
        threads: int,
        weight_cache: WeightCache | None,
        cell_type: CellType = "float32",
        device: Literal["cpu", "gpu"] = "cpu",
    ) -> None:
        """Loads a model.

        Args:
            path: the LiteRT file.
            spec: shape of the decoder.
            shapes: sizes of the file's signatures.
            threads: CPU threads.
            weight_cache: where packed weights are kept.
            cell_type: how the file's cells are stored.
            device: where it runs; nothing falls back from a GPU.

        Raises:
            DeviceError: LiteRT is missing, cannot bind host memory, or refused the file.
        """
        reason = supported()
        number_bytes = 2 if cell_type == "float16" else 4  # of new keys and values
        if reason is None and spec.kv_heads * spec.head_size * number_bytes % ALIGNMENT_BYTES:
            reason = (
                f"{spec.kv_heads} KV heads of {spec.head_size} with {number_bytes} bytes a number do not "
                f"fill whole {ALIGNMENT_BYTES}-byte lines"
            )
        if reason is None and cell_type == "int8":
            reason = _unaligned(spec, shapes)
        if reason is not None:
            raise DeviceError(f"LiteRT cannot use host memory in place: {reason}")
        self._spec = spec
        self._weight_cache = weight_cache  # LiteRT may ask for its name as long as the model is there
        self.cell_type: CellType = cell_type
        """How the cells that it reads are stored."""
        self._shapes = tuple(sorted(shapes))
        self._model = _load(path, threads, weight_cache, device)
        self._check_layout()
        self._started = False
        self._signatures: dict[tuple[str, int], _Signature] = {}
        self._laid = self._sizes_in_file()
        self._sizes: dict[StepShape, _Size] = {}
        self._turned: dict[tuple[str, int], Float] = {}
        self._bound: OrderedDict[tuple[int, int], _Bound] = OrderedDict()
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
            if self._started:
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
        self._signatures.clear()
        self._sizes.clear()
        self._turned.clear()
        self._bound.clear()
        self._ready = None

    def _make_ready(self, shape: StepShape, cells: Cells) -> _Ready:
        """Looks up what a step needs, and gives its signature the size."""
        self._ready = None
        size = self._size(shape)
        signature = size.signature
        bound = self._bind(cells)
        arguments = bound.arguments.get(shape)
        if arguments is None:
            inputs = [bound.buffers[place] if isinstance(place, int) else place for place in size.inputs]
            arguments = bound.arguments[shape] = Arguments(inputs, signature.outputs)
        if self._laid.get(signature.index) != (shape.tokens, shape.cells):
            try:
                self._resize(signature.index, (shape.tokens, shape.cells), arguments)
            except RuntimeError as error:
                raise _failed(shape, error) from error
        self._ready = _Ready(shape, cells, size.turned, signature.index, arguments)
        return self._ready

    def _first_run(self, index: int, arguments: Arguments) -> None:
        """LiteRT sets up a second environment with the first run, talks about it, and again at the end."""
        try:
            with caught_native_log(known=NATIVE_LINES):
                self._model.run(index, arguments)
        finally:  # an interruption is an end too
            hush_the_end()
        self._started = True

    def _resize(self, index: int, size: tuple[int, int], arguments: Arguments) -> None:
        """Gives the inputs of a signature the shapes of what they are bound to, and remembers T and S."""
        self._laid.pop(index, None)  # some of them may have changed when one is refused
        self._model.resize(index, [buffer.shape for buffer in arguments.inputs])
        self._laid[index] = size

    def _sizes_in_file(self) -> dict[int, tuple[int, int]]:
        """T and S of every signature that has one size only, by index."""
        found: dict[int, set[tuple[int, int]]] = {}
        for shape in self._shapes:
            index = self._model.index(shape.signature)
            found.setdefault(index, set()).add((shape.tokens, shape.cells))
        return {index: next(iter(sizes)) for index, sizes in found.items() if len(sizes) == 1}

    def _check_layout(self) -> None:
        """Refuses a C library whose structures are not the ones that `host_memory` fills."""
        name = self._shapes[0].signature
        index, inputs = self._inputs_of(name)
        largest = max(shape for shape in self._shapes if shape.signature == name)
        found = self._model.input_shape(index, inputs.index(MASKS[0]))
        expected = (largest.tokens, largest.cells + largest.tokens)
        if found != expected:
            raise DeviceError(f"LiteRT describes a mask of shape {expected} as {found}; its C API changed")

    def _inputs_of(self, signature: str) -> tuple[int, list[str]]:
        """Index of a signature, and the names of its inputs, which are those that cells and masks need."""
        index = self._model.index(signature)
        if index < 0:
            raise DeviceError(f"the LiteRT file has no signature {signature!r}; convert it again")
        names, _ = self._model.names(index)
        check_cell_inputs(names, len(self._spec.layers), self.cell_type)
        return index, names

    def _size(self, shape: StepShape) -> _Size:
        if shape not in self._sizes:
            self._sizes[shape] = self._prepare(shape)
        return self._sizes[shape]

    def _prepare(self, shape: StepShape) -> _Size:
        T, width, layers = shape.tokens, shape.tokens + shape.cells, len(self._spec.layers)
        signature = self._signatures.get((shape.signature, T))
        if signature is None:
            arrays = allocate_buffers(self._spec, shape, self.cell_type)
            signature = self._signatures[shape.signature, T] = self._prepare_signature(shape, arrays)
        else:
            window = None if self._spec.window is None else aligned_floats(T, width)
            arrays = dataclasses.replace(signature.arrays, mask=aligned_floats(T, width), window_mask=window)
        inputs: dict[str, HostBuffer | int] = dict(signature.inputs)
        inputs.update({name: i for i, name in enumerate(cell_input_names(layers, self.cell_type))})
        turned = []
        for name, mask in zip(MASKS, (arrays.mask, arrays.window_mask), strict=True):
            if mask is not None:
                turned.append((mask, self._turned_array(name, T, width)))
                inputs[name] = HostBuffer(turned[-1][1])
        unknown = [name for name in signature.names if name not in inputs]
        if unknown:
            raise DeviceError(f"the LiteRT file wants {unknown[0]!r}, which nothing gives; convert it again")
        return _Size(signature, arrays, turned, tuple(inputs[name] for name in signature.names))

    def _turned_array(self, name: str, T: int, width: int) -> Float:
        """Memory for a mask in the order of the file: written before every run, so all sizes share it."""
        memory = self._turned.get((name, T))
        if memory is None:
            most = max(shape.cells for shape in self._shapes if shape.tokens == T)
            memory = self._turned[name, T] = aligned_floats(T * (T + most))
        return memory[: T * width].reshape(T, width)

    def _prepare_signature(self, shape: StepShape, arrays: StepBuffers) -> _Signature:
        index, names = self._inputs_of(shape.signature)
        results = {"logits": arrays.logits}
        for layer in range(len(self._spec.layers)):
            for side, letter in enumerate("kv"):
                results[f"{letter}_new.{layer}"] = arrays.kv_new[layer, side]
        given = {"tokens": arrays.tokens, "positions": arrays.positions, "rows": arrays.rows}
        return _Signature(
            index=index,
            names=names,
            arrays=arrays,
            inputs={name: HostBuffer(array) for name, array in given.items()},
            outputs=[HostBuffer(results[name]) for name in self._model.names(index)[1]],
        )

    def _bind(self, cells: Cells) -> _Bound:
        """Buffers over each layer's keys and values, kept for the arrays used last."""
        values = cells.values if isinstance(cells, Int8Cells) else cells
        key = (values.ctypes.data, values.shape[3])
        if key in self._bound:
            self._bound.move_to_end(key)
            return self._bound[key]
        views = cell_views(cells, self.cell_type)
        self._bound[key] = _Bound(cells, [HostBuffer(view) for view in views], {})
        while len(self._bound) > _BOUND_CELLS:
            self._bound.popitem(last=False)
        return self._bound[key]


def _failed(shape: StepShape, error: RuntimeError) -> DeviceError:
    return DeviceError(f"LiteRT failed in step {shape.signature}: {error}")


def _unaligned(spec: DecoderSpec, shapes: tuple[StepShape, ...]) -> str | None:
    """Why int8 cells of some size would not start at whole lines in every layer; None if they do."""
    for shape in shapes:
        row = spec.kv_heads * shape.cells
        if row * spec.head_size % ALIGNMENT_BYTES or row * 4 % ALIGNMENT_BYTES:
            return (
                f"{shape.cells} int8 cells of {spec.kv_heads} KV heads of {spec.head_size} do not fill whole "
                f"{ALIGNMENT_BYTES}-byte lines"
            )
    return None


def _load(
    path: Path, threads: int, weight_cache: WeightCache | None, device: Literal["cpu", "gpu"]
) -> NativeModel | WrappedModel:
    fatal = refusal()
    if fatal is not None:
        raise DeviceError(f"LiteRT cannot load {path.name}: {fatal}")
    if device == "gpu":
        return WrappedModel(path)
    try:
        model = NativeModel(
            path, threads=threads, weight_cache=None if weight_cache is None else weight_cache.path
        )
        if weight_cache is not None:
            weight_cache.finish()
    except DeviceError:
        if weight_cache is not None:
            weight_cache.release()
        raise
    return model
