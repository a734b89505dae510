"""Reads the MIL program of a saved Core ML package into plain records.

Two files are read, at the places where coremltools puts them: the model (a protobuf, Model.proto and
MIL.proto) and `weight.bin`. Names, types and shapes are checked here; what operations mean is the
interpreter's business. The files are untrusted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.coreml.weight_file import WeightFile
from edgesdk.errors import BundleError, MissingExtra

if TYPE_CHECKING:
    from coremltools.proto import MIL_pb2, Model_pb2

MODEL_PATH = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS_PATH = "Data/com.apple.CoreML/weights/weight.bin"
_WEIGHTS_NAME = "@model_path/weights/weight.bin"

LARGEST_TENSOR = 1 << 31
"""Elements; far beyond what a step makes, short of what a machine cannot hold."""

# Element types by their number in MIL.proto, `DataType`.
_TYPES = {1: "bool", 2: "str", 10: "float16", 11: "float32", 21: "int8", 23: "int32", 25: "int4", 35: "uint4"}

Array = NDArray[np.generic]


@dataclass(frozen=True)
class TensorType:
    """Element type, as numpy names it (int4 and uint4 besides), and shape; `state` for a model's state."""

    dtype: str
    shape: tuple[int, ...]
    state: bool = False


@dataclass(frozen=True)
class Stored:
    """A constant in the weight file, by the offset of its blob."""

    offset: int
    type: TensorType


Literal = Array | str
Argument = str | Stored | tuple[Literal]
"""A value's name, a stored constant, or a literal (wrapped, to be told from a name)."""


@dataclass(frozen=True)
class Operation:
    """One operation: `inputs` by parameter, each one argument or more; `outputs` by name."""

    type: str
    inputs: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[tuple[str, TensorType], ...]


@dataclass(frozen=True)
class Function:
    """One function of the program, its operations in order."""

    inputs: Mapping[str, TensorType]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class MilProgram:
    """All functions by name, and the weights they share."""

    functions: Mapping[str, Function]
    weights: WeightFile


def read_program(package: Path) -> MilProgram:
    """Reads a package.

    Args:
        package: the `.mlpackage` folder.

    Raises:
        BundleError: it is damaged, or holds something else than a MIL program.
        MissingExtra: coremltools, which knows the protobuf, is not installed.
    """
    spec = _parse(package / MODEL_PATH)
    if spec.WhichOneof("Type") != "mlProgram":
        raise BundleError(f"{package.name} holds no MIL program; convert the bundle again")
    functions = {name: _function(name, f) for name, f in spec.mlProgram.functions.items()}
    return MilProgram(functions, WeightFile(package / WEIGHTS_PATH))


def _parse(path: Path) -> Model_pb2.Model:
    # Outside macOS coremltools warns about every native library that it cannot load.
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        from coremltools.proto import Model_pb2
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtra("coremltools", "coreml") from error
    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path.name} cannot be read ({reason}); copy or convert it again") from error
    return spec


def _function(name: str, function: MIL_pb2.Function) -> Function:
    if function.opset not in function.block_specializations:
        raise BundleError(f"function {name!r} has no block for its opset {function.opset!r}")
    block = function.block_specializations[function.opset]
    return Function(
        inputs={value.name: _value_type(value.type) for value in function.inputs},
        operations=tuple(_operation(op) for op in block.operations),
        outputs=tuple(block.outputs),
    )


def _operation(op: MIL_pb2.Operation) -> Operation:
    if op.blocks:
        raise BundleError(f"operation {op.type!r} holds blocks, which no edgesdk model does")
    inputs = {
        name: tuple(_argument(binding) for binding in argument.arguments)
        for name, argument in op.inputs.items()
    }
    if op.type == "const":
        inputs["val"] = (_value(op.attributes["val"]),)
    return Operation(op.type, inputs, tuple((out.name, _value_type(out.type)) for out in op.outputs))


def _argument(binding: MIL_pb2.Argument.Binding) -> Argument:
    if binding.WhichOneof("binding") == "name":
        return cast(str, binding.name)
    return _value(binding.value)


def _value(value: MIL_pb2.Value) -> Argument:
    kind = _value_type(value.type)
    if value.WhichOneof("value") == "blobFileValue":
        if value.blobFileValue.fileName != _WEIGHTS_NAME:
            raise BundleError(
                f"a constant lies in {value.blobFileValue.fileName!r}, expected {_WEIGHTS_NAME!r}"
            )
        return Stored(value.blobFileValue.offset, kind)
    tensor = value.immediateValue.tensor
    field = tensor.WhichOneof("value")
    if field == "strings":
        if len(tensor.strings.values) != 1:
            raise BundleError("a literal holds several strings, expected one")
        return (cast(str, tensor.strings.values[0]),)
    if field == "bytes":
        raw = tensor.bytes.values
        if kind.dtype not in ("float16", "int8") or len(raw) % np.dtype(kind.dtype).itemsize:
            raise BundleError(f"a literal of type {kind.dtype} stands in {len(raw)} bytes")
        array: Array = np.frombuffer(raw, np.dtype(kind.dtype).newbyteorder("<"))
    elif (field, kind.dtype) in (("ints", "int32"), ("floats", "float32"), ("bools", "bool")):
        array = np.array(getattr(tensor, field).values, kind.dtype)
    else:
        raise BundleError(f"a literal of type {kind.dtype} stands in the field {field!r}")
    if array.size != int(np.prod(kind.shape, dtype=np.int64)):
        raise BundleError(f"a literal has {array.size} elements, its shape {kind.shape} needs others")
    return (array.reshape(kind.shape),)


def _value_type(value: MIL_pb2.ValueType) -> TensorType:
    if value.WhichOneof("type") == "stateType":
        wrapped = _value_type(value.stateType.wrappedType)
        return TensorType(wrapped.dtype, wrapped.shape, state=True)
    if value.WhichOneof("type") != "tensorType":
        raise BundleError(f"a value is of the kind {value.WhichOneof('type')!r}, expected a tensor")
    tensor = value.tensorType
    if tensor.dataType not in _TYPES:
        raise BundleError(f"a tensor has element type {tensor.dataType}, which no edgesdk model uses")
    if any(dim.WhichOneof("dimension") != "constant" for dim in tensor.dimensions):
        raise BundleError("a tensor has a dimension without a size; expected a model of static shapes")
    shape = tuple(int(dim.constant.size) for dim in tensor.dimensions)
    # Python's integers: numpy's would wrap around.
    elements = 1
    for size in shape:
        elements *= size
    if elements > LARGEST_TENSOR:
        raise BundleError(f"a tensor has the shape {shape}, more than any step needs")
    return TensorType(_TYPES[tensor.dataType], shape)
