"""Writes a LiteRT model file: tensors, operators, subgraphs and signatures, without TensorFlow.

Constants lie behind the packed flatbuffer, so they are streamed one by one and stand once in the
file however many subgraphs use them. It knows nothing of decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import EmitError, MissingExtra
from edgesdk_converters.emit.litert.shared_packing import packed_once, shared_vectors
from edgesdk_converters.graph.graph import DType

_ALIGNMENT = 64  # cache lines; kernels that read constants in place want at least 16
_LENGTH_BYTES = 4  # a flatbuffer vector starts with its length, and offsets are as wide
_LARGEST_FLATBUFFER = 2**31 - 1  # what the verifier accepts
_PLACEHOLDER = 2  # 0 and 1 mean "inside the flatbuffer"

Constant = Callable[[], NDArray[np.generic]]


class Varying(int):
    """A dimension that whoever loads the file may resize; its value is what it is until then.

    Sums and products with it vary as well. Tensors state such a dimension as -1 beside its value, and
    shapes that operators take as constants leave it to be inferred.
    """

    def __add__(self, other: int) -> Varying:
        """The sum varies."""
        return Varying(int(self) + other)

    def __mul__(self, other: int) -> Varying:
        """The product varies."""
        return Varying(int(self) * other)

    __radd__ = __add__
    __rmul__ = __mul__


def stated(dimensions: Sequence[int]) -> NDArray[np.int32]:
    """Dimensions with -1 for those that vary."""
    return np.asarray([-1 if isinstance(size, Varying) else size for size in dimensions], np.int32)


def schema() -> ModuleType:
    """The generated flatbuffer classes, which ship with LiteRT.

    Raises:
        MissingExtra: LiteRT is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingExtra("ai-edge-litert", "convert") from error
    module: ModuleType = schema_py_generated
    return module


@dataclass(frozen=True)
class Quantisation:
    """Quantisation of a constant as the file states it.

    Attributes:
        scales: (rows,) per-channel scales along axis 0; None for blockwise.
        block: columns per blockwise scale.
        block_scales: index of the tensor that holds float16 blockwise scales, in its subgraph.
    """

    scales: NDArray[np.float32] | None = None
    block: int | None = None
    block_scales: int | None = None


@dataclass
class Subgraph:
    """One subgraph under construction: tensors by index, operators in order.

    Attributes:
        name: also the signature's key.
        model: the file it belongs to.
    """

    name: str
    model: ModelFile
    tensors: list[object] = field(default_factory=list)
    operators: list[object] = field(default_factory=list)
    inputs: list[tuple[str, int]] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    _constants: dict[str, int] = field(default_factory=dict)
    _shapes: list[tuple[int, ...]] = field(default_factory=list)

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "FLOAT32", buffer: int = 0) -> int:
        """Adds a tensor and returns its index."""
        s = self.model.schema
        tensor = s.TensorT()
        tensor.name = name
        tensor.shape = np.asarray(shape, np.int32)
        if any(isinstance(size, Varying) for size in shape):
            tensor.shapeSignature = stated(shape)
        tensor.type = getattr(s.TensorType, dtype)
        tensor.buffer = buffer
        tensor.hasRank = True
        self.tensors.append(tensor)
        self._shapes.append(tuple(shape))
        return len(self.tensors) - 1

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor, as it was given: dimensions that vary are `Varying`."""
        return self._shapes[index]

    def is_half(self, index: int) -> bool:
        """Whether a tensor is float16."""
        return bool(self.tensors[index].type == self.model.schema.TensorType.FLOAT16)  # type: ignore[attr-defined]

    def input(
        self,
        name: str,
        shape: Sequence[int],
        dtype: DType | Literal["float16", "int8"] = "float32",
        quantisation: Quantisation | None = None,
    ) -> int:
        """Adds an input and returns its index; integers of one with a quantisation stand for numbers.

        Whoever loads the file must give a `Varying` dimension its size before the signature runs.
        """
        index = self.tensor(name, shape, dtype.upper())
        if quantisation is not None:
            # By scales, not by name: signatures have inputs of equal names.
            parameters = self.model.parameters(f"input:{quantisation.scales}", quantisation)
            self.tensors[index].quantization = parameters  # type: ignore[attr-defined]
        self.inputs.append((name, index))
        return index

    def output(self, name: str, index: int) -> None:
        """Declares a tensor as output.

        Raises:
            EmitError: it is an input, or another output as well: the two would share memory.
        """
        for kind, taken in (("input", self.inputs), ("output", self.outputs)):
            for other, used in taken:
                if used == index:
                    raise EmitError(
                        f"output {name!r} of {self.name!r} is the very tensor of {kind} {other!r}, expected "
                        "one of its own; please report this"
                    )
        self.outputs.append((name, index))

    def constant(
        self,
        key: str,
        shape: Sequence[int],
        dtype: str,
        data: Constant,
        quantisation: Quantisation | None = None,
        view: str = "",
    ) -> int:
        """Adds a constant whose bytes the file holds once under `key`.

        Args:
            key: the buffer; subgraphs that use the same key share it.
            shape: of the tensor.
            dtype: of the tensor, as in the schema.
            data: makes the bytes, when the file is written.
            quantisation: of the tensor.
            view: distinguishes tensors of different type or quantisation over one buffer.

        Returns:
            The tensor's index.
        """
        name = f"{key}{view}"
        if name not in self._constants:
            index = self.tensor(name, shape, dtype, self.model.buffer(key, data))
            if quantisation is not None:
                parameters = self.model.parameters(name, quantisation)
                self.tensors[index].quantization = parameters  # type: ignore[attr-defined]
            self._constants[name] = index
        return self._constants[name]

    def integers(self, name: str, values: Sequence[int]) -> int:
        """Adds a small int32 constant (axes, shapes, permutations); -1 for what varies."""
        array = stated(values)
        key = f"int32:{','.join(map(str, array))}"
        return self.constant(key, array.shape, "INT32", lambda: array)

    def number(self, value: float) -> int:
        """Adds a float32 scalar."""
        array = np.asarray([value], np.float32)
        return self.constant(f"float32:{float(array[0])!r}", (1,), "FLOAT32", lambda: array)

    def op(
        self, code: str, version: int, inputs: Sequence[int], outputs: Sequence[int], options: object = None
    ) -> None:
        """Appends an operator; `options` is one of the schema's `...OptionsT` objects."""
        s = self.model.schema
        operator = s.OperatorT()
        operator.opcodeIndex = self.model.opcode(code, version)
        operator.inputs = np.asarray(inputs, np.int32)
        operator.outputs = np.asarray(outputs, np.int32)
        if options is not None:
            operator.builtinOptionsType = getattr(s.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self.operators.append(operator)


class ModelFile:
    """A model file under construction."""

    def __init__(self, description: str) -> None:
        """An empty model."""
        self.schema = schema()
        self.subgraphs: list[Subgraph] = []
        self._description = description
        self._opcodes: dict[tuple[str, int], int] = {}
        self._buffers: dict[str, int] = {}
        self._data: list[Constant] = []
        self._scales: dict[str, object] = {}

    def subgraph(self, name: str) -> Subgraph:
        """Adds a subgraph with a signature of the same name."""
        self.subgraphs.append(Subgraph(name, self))
        return self.subgraphs[-1]

    def opcode(self, code: str, version: int) -> int:
        """Index of an operator code in a version."""
        return self._opcodes.setdefault((code, version), len(self._opcodes))

    def buffer(self, key: str, data: Constant) -> int:
        """Index of the buffer for `key`; 0 is the empty buffer that the schema wants first."""
        if key not in self._buffers:
            self._data.append(data)
            self._buffers[key] = len(self._data)
        return self._buffers[key]

    def parameters(self, name: str, quantisation: Quantisation) -> object:
        """Quantisation parameters as the schema wants them.

        Per-channel scales of one constant are packed once and shared by all subgraphs: a vocabulary
        has as many scales as a layer has weights.
        """
        s = self.schema
        if quantisation.block_scales is not None:
            details = s.BlockwiseQuantizationT()
            details.scales = quantisation.block_scales
            details.zeroPoints = -1
            details.blockSize = quantisation.block
            parameters = s.QuantizationParametersT()
            parameters.detailsType = s.QuantizationDetails.BlockwiseQuantization
            parameters.details = details
            parameters.quantizedDimension = 0
            return parameters
        if name not in self._scales:
            shared = packed_once(s.QuantizationParametersT)()
            shared.scale = quantisation.scales
            shared.zeroPoint = np.zeros(len(shared.scale), np.int64)
            shared.quantizedDimension = 0
            self._scales[name] = shared
        return self._scales[name]

    def write(self, path: Path) -> None:
        """Writes the file: flatbuffer first, then every constant, made one at a time; once.

        What makes them is dropped afterwards. It holds a model's integers, and subgraphs and their model
        hold each other until Python looks for such circles, minutes later.

        Raises:
            OSError: the file cannot be written.
        """
        packed = bytearray(self._pack(self._model(external=False)))
        places: list[tuple[int, int]] = []
        with path.open("wb") as file:
            file.seek(len(packed))
            for place, data in enumerate(self._data):
                array = np.ascontiguousarray(data())
                self._data[place] = _written
                start = _align(file.tell() + _LENGTH_BYTES)
                file.seek(start - _LENGTH_BYTES)
                file.write(np.uint32(array.nbytes).tobytes())
                file.write(array.reshape(-1).view(np.uint8).data)
                places.append((start, array.nbytes))
            if file.tell() <= _LARGEST_FLATBUFFER:
                self._point(packed, places)
                file.seek(0)
                file.write(packed)
                return
        self._write_external(path, places)

    def _point(self, packed: bytearray, places: Sequence[tuple[int, int]]) -> None:
        """Makes each buffer's data vector the one that lies behind the flatbuffer.

        A vector is a forward offset to a length and that many bytes; nothing says that it must lie
        inside what the builder packed.
        """
        root = self.schema.Model.GetRootAs(packed)
        for index, (start, _) in enumerate(places, start=1):
            table = root.Buffers(index)._tab
            field_at = table.Pos + table.Offset(4)
            offset = np.uint32(start - _LENGTH_BYTES - field_at)
            packed[field_at : field_at + _LENGTH_BYTES] = offset.tobytes()

    def _write_external(self, path: Path, places: Sequence[tuple[int, int]]) -> None:
        """Beyond 2 GB constants are found by `Buffer.offset` and `Buffer.size` instead (schema.fbs).

        tflite-runtime 2.14 does not know these fields, so smaller files do without them. The tables
        are larger by those fields; they go to the end of the space that alignment left, or the
        constants are moved.
        """
        model = self._model(external=True)
        head = _align(len(self._pack(model)))
        shift = max(0, head - places[0][0] + _LENGTH_BYTES)
        shift = _align(shift)
        for buffer, (start, size) in zip(model.buffers[1:], places, strict=True):  # type: ignore[attr-defined]
            buffer.offset, buffer.size = start + shift, size
        packed = self._pack(model)
        if len(packed) > head:
            raise EmitError("the LiteRT flatbuffer changed size between two packings; please report this")
        with path.open("r+b") as file:
            _move_tail(file, places[0][0], shift)
            file.seek(0)
            file.write(packed)

    def _model(self, *, external: bool) -> object:
        s = self.schema
        model = s.ModelT()
        model.version = 3
        model.description = self._description
        model.operatorCodes = [self._operator_code(*key) for key in self._opcodes]
        model.buffers = [s.BufferT() for _ in range(len(self._data) + 1)]
        for buffer in model.buffers[1:]:
            if external:
                # Offsets have a fixed width, so a placeholder fixes the size of the flatbuffer.
                buffer.offset = buffer.size = _PLACEHOLDER
            else:
                buffer.data = np.empty(0, np.uint8)
        model.subgraphs, model.signatureDefs = [], []
        for index, subgraph in enumerate(self.subgraphs):
            packed = s.SubGraphT()
            packed.name = subgraph.name
            packed.tensors = subgraph.tensors
            packed.operators = subgraph.operators
            packed.inputs = np.asarray([i for _, i in subgraph.inputs], np.int32)
            packed.outputs = np.asarray([i for _, i in subgraph.outputs], np.int32)
            model.subgraphs.append(packed)
            signature = s.SignatureDefT()
            signature.signatureKey = subgraph.name
            signature.subgraphIndex = index
            signature.inputs = [self._tensor_map(*pair) for pair in subgraph.inputs]
            signature.outputs = [self._tensor_map(*pair) for pair in subgraph.outputs]
            model.signatureDefs.append(signature)
        return model

    def _operator_code(self, code: str, version: int) -> object:
        operator = self.schema.OperatorCodeT()
        operator.builtinCode = getattr(self.schema.BuiltinOperator, code)
        # Readers older than schema 3a look at the deprecated byte, which saturates at 127.
        operator.deprecatedBuiltinCode = min(operator.builtinCode, 127)
        operator.version = version
        return operator

    def _tensor_map(self, name: str, index: int) -> object:
        pair = self.schema.TensorMapT()
        pair.name = name
        pair.tensorIndex = index
        return pair

    def _pack(self, model: object) -> bytes:
        builder = shared_vectors()
        builder.Finish(model.Pack(builder), b"TFL3")  # type: ignore[attr-defined]
        return bytes(builder.Output())  # type: ignore[attr-defined]


def _written() -> NDArray[np.generic]:
    raise EmitError("a LiteRT file was written twice; please report this")


def _align(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def _move_tail(file: BinaryIO, start: int, shift: int) -> None:
    """Moves everything from `start` on by `shift` bytes, last block first."""
    block = 64 << 20
    file.seek(0, 2)
    end = file.tell()
    while shift and end > start:
        begin = max(start, end - block)
        file.seek(begin)
        data = file.read(end - begin)
        file.seek(begin + shift)
        file.write(data)
        end = begin
