"""LiteRT's CompiledModel as a step backend: cells and results are read and written in place.

It supports every signature of a LiteRT variant, on the CPU (XNNPACK) or on the GPU. It knows nothing of
sequences.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.backends.litert.cell_inputs import cell_input_names, cell_views, check_cell_inputs
from edgesdk.backends.litert.host_memory import HostBuffer, described_shape, supported
from edgesdk.backends.litert.weight_cache import WeightCache
from edgesdk.backends.native_log import caught_native_log, hush_the_end
from edgesdk.backends.protocol import Cells, Float, Int, Int8Cells, StepBuffers
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.errors import DeviceError

if TYPE_CHECKING:
    from ai_edge_litert.compiled_model import CompiledModel

_BOUND_CELLS = 4
"""Cell arrays whose buffers are kept: a sequence has one, and leaves it when it grows."""


@dataclass(frozen=True)
class _Signature:
    """What running one size needs.

    Attributes:
        index: of the signature.
        arrays: numpy views of inputs and outputs.
        inputs: buffers in the signature's order; None where cells go.
        outputs: buffers in the signature's order.
        cells: for each input, which of the buffers over cells goes there; None for others.
    """

    index: int
    arrays: StepBuffers
    inputs: tuple[HostBuffer | None, ...]
    outputs: tuple[HostBuffer, ...]
    cells: tuple[int | None, ...]


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
        if reason is None and spec.kv_heads * spec.head_size * 4 % ALIGNMENT_BYTES:
            reason = (
                f"{spec.kv_heads} KV heads of {spec.head_size} do not fill whole {ALIGNMENT_BYTES}-byte lines"
            )
        if reason is None and cell_type == "int8":
            reason = _unaligned(spec, shapes)
        if reason is not None:
            raise DeviceError(f"LiteRT cannot use host memory in place: {reason}")
        self._spec = spec
        self.cell_type: CellType = cell_type
        """How the cells that it reads are stored."""
        self._shapes = tuple(sorted(shapes))
        self._model = _load(path, threads, weight_cache, device)
        # LiteRT prints when its environment goes away, also when the interpreter ends.
        self._release = weakref.finalize(self, _release, self._model)
        self._check_layout()
        self._started = False
        self._signatures: dict[StepShape, _Signature] = {}
        self._bound: OrderedDict[tuple[int, int], tuple[Cells, list[HostBuffer]]] = OrderedDict()

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    @property
    def accelerated_share(self) -> float | None:
        """1.0 when every operation runs on the delegate; None when LiteRT only says that some do not."""
        return 1.0 if self._model.is_fully_accelerated() else None

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""
        return self._signature(shape).arrays

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Raises:
            DeviceError: LiteRT failed, or the cells have another type than the file's.
        """
        signature = self._signature(shape)
        bound = self._bind(cells)
        inputs = [
            buffer if place is None else bound[place]
            for buffer, place in zip(signature.inputs, signature.cells, strict=True)
        ]
        try:
            if self._started:
                self._model.run_by_index(signature.index, inputs, list(signature.outputs))
            else:
                self._first_run(signature.index, inputs, list(signature.outputs))
        except RuntimeError as error:
            raise DeviceError(f"LiteRT failed in step {shape.signature}: {error}") from error

    def close(self) -> None:
        """Releases the model and its buffers, not the arrays."""
        self._signatures.clear()
        self._bound.clear()
        self._release()

    def _first_run(self, index: int, inputs: list[HostBuffer | None], outputs: list[HostBuffer]) -> None:
        """LiteRT sets up a second environment with the first run, talks about it, and again at the end."""
        with caught_native_log():
            self._model.run_by_index(index, inputs, outputs)
        hush_the_end()
        self._started = True

    def _check_layout(self) -> None:
        """Refuses a C library whose structures are not the ones that `host_memory` fills."""
        shape = self._shapes[0]
        buffer = self._model.create_input_buffer_by_name(shape.signature, "mask")
        found, expected = described_shape(buffer.capsule), (shape.tokens, shape.cells + shape.tokens)
        if found != expected:
            raise DeviceError(f"LiteRT describes a mask of shape {expected} as {found}; its C API changed")

    def _signature(self, shape: StepShape) -> _Signature:
        if shape not in self._signatures:
            self._signatures[shape] = self._prepare(shape)
        return self._signatures[shape]

    def _prepare(self, shape: StepShape) -> _Signature:
        arrays = allocate_buffers(self._spec, shape)
        named: dict[str, Float | Int] = {
            "tokens": arrays.tokens,
            "positions": arrays.positions,
            "mask": arrays.mask,
            "rows": arrays.rows,
            "logits": arrays.logits,
        }
        if arrays.window_mask is not None:
            named["window_mask"] = arrays.window_mask
        layers = len(self._spec.layers)
        for layer in range(layers):
            for side, letter in enumerate("kv"):
                named[f"{letter}_new.{layer}"] = arrays.kv_new[layer, side]
        places = {name: i for i, name in enumerate(cell_input_names(layers, self.cell_type))}
        index = self._model.get_signature_index(shape.signature)
        if index < 0:
            raise DeviceError(f"the LiteRT file has no signature {shape.signature!r}; convert it again")
        names = self._model.get_signature_by_index(index)
        check_cell_inputs(names["inputs"], layers, self.cell_type)
        return _Signature(
            index=index,
            arrays=arrays,
            inputs=tuple(None if name in places else HostBuffer(named[name]) for name in names["inputs"]),
            outputs=tuple(HostBuffer(named[name]) for name in names["outputs"]),
            cells=tuple(places.get(name) for name in names["inputs"]),
        )

    def _bind(self, cells: Cells) -> list[HostBuffer]:
        """Buffers over each layer's keys and values, kept for the arrays used last."""
        values = cells.values if isinstance(cells, Int8Cells) else cells
        key = (values.ctypes.data, values.shape[3])
        if key in self._bound:
            self._bound.move_to_end(key)
            return self._bound[key][1]
        views = cell_views(cells, self.cell_type)
        # The array is kept with its buffers, so its address cannot pass to another meanwhile.
        self._bound[key] = (cells, [HostBuffer(view) for view in views])
        while len(self._bound) > _BOUND_CELLS:
            self._bound.popitem(last=False)
        return self._bound[key][1]


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
) -> CompiledModel:
    with caught_native_log():
        try:
            from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options

            cache = "" if weight_cache is None else str(weight_cache.path)
            if device == "gpu":
                options = Options(hardware_accelerators=HardwareAccelerator.GPU)
            else:
                options = Options(
                    hardware_accelerators=HardwareAccelerator.CPU,
                    cpu_options=CpuOptions(num_threads=threads, xnnpack_weight_cache_path=cache),
                )
            model = CompiledModel.from_file(str(path), options=options)
            if weight_cache is not None:
                weight_cache.finish()
        except ImportError as error:
            raise DeviceError(f"LiteRT cannot be imported: {error}") from error
        except (RuntimeError, ValueError) as error:
            if weight_cache is not None:
                weight_cache.abandon()
            failure = str(error).splitlines()[0]
            raise DeviceError(f"LiteRT cannot load {path.name}: {failure}") from error
    return model


def _release(model: CompiledModel) -> None:
    with caught_native_log():
        environment = model.environment
        model.close()
        environment.close()
