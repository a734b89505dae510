"""Writes ONNX models whose large constants stream into one data file that several models share.

Constants are made, written and dropped one at a time, so memory stays near the largest tensor. The
layout is ONNX's external data (onnx/docs/ExternalData.md). It knows nothing of decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BufferedWriter
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import EmitError, MissingExtra

Constant = Callable[[], NDArray[np.generic]]
Attribute = int | float | str | Sequence[int]

ONNX_OPSET = 21  # the first with int4 and blocks in DequantizeLinear
_IR_VERSION = 10  # the first with int4 tensors
_INLINE_BYTES = 1024
_ALIGNMENT = 64
_PAGE_ALIGNMENT = 64 * 1024  # allocation granularity on Windows: what memory maps start at
_PAGED_BYTES = 1 << 20
_FILE_LIMIT_BYTES = 2**31 - 1  # protobuf's


def onnx_package() -> ModuleType:
    """The `onnx` package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "convert") from error
    package: ModuleType = onnx
    return package


class ExternalData:
    """The data file: each key's bytes stand in it once, whichever models name them."""

    def __init__(self, path: Path) -> None:
        """Prepares to write `path`; models must be saved in the same folder."""
        self.path = path
        self._onnx = onnx_package()
        self._file: BufferedWriter | None = None
        self._tensors: dict[str, object] = {}

    def __enter__(self) -> Self:
        """Creates the file."""
        self._file = self.path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def tensor(self, key: str, dtype: str, shape: Sequence[int], make: Constant) -> object:
        """The initializer of a constant, written when its key is new.

        Args:
            key: name of the initializer.
            dtype: element type as ONNX names it, e.g. `FLOAT`, `INT4`.
            shape: of the tensor.
            make: its elements; for INT4 two per byte, the first in the low half.

        Raises:
            EmitError: the elements do not fill the shape.
        """
        if key not in self._tensors:
            self._tensors[key] = self._write(key, dtype, shape, np.ascontiguousarray(make()))
        return self._tensors[key]

    def _write(self, key: str, dtype: str, shape: Sequence[int], array: NDArray[np.generic]) -> object:
        expected = int(np.prod(shape, dtype=np.int64))
        expected = (expected + 1) // 2 if dtype == "INT4" else expected
        if array.size != expected:
            raise EmitError(
                f"constant {key!r} has {array.size} elements, its shape {tuple(shape)} needs others"
            )
        if self._file is None:
            raise EmitError(f"constant {key!r} was added after the data file {self.path.name} was closed")
        tensor = self._onnx.TensorProto()
        tensor.name, tensor.data_type = key, getattr(self._onnx.TensorProto, dtype)
        tensor.dims.extend(shape)
        if array.nbytes <= _INLINE_BYTES:
            tensor.raw_data = array.tobytes()
            return tensor
        step = _PAGE_ALIGNMENT if array.nbytes >= _PAGED_BYTES else _ALIGNMENT
        offset = -(-self._file.tell() // step) * step
        self._file.seek(offset)
        self._file.write(array.reshape(-1).view(np.uint8).data)
        tensor.data_location = self._onnx.TensorProto.EXTERNAL
        for name, value in (("location", self.path.name), ("offset", offset), ("length", array.nbytes)):
            entry = tensor.external_data.add()
            entry.key, entry.value = name, str(value)
        return tensor


class OnnxModel:
    """A model under construction: nodes in order, every name defined once."""

    def __init__(self, name: str, data: ExternalData) -> None:
        """An empty model whose large constants go to `data`."""
        self._onnx = onnx_package()
        self._data = data
        self._name = name
        self._nodes: list[object] = []
        self._inputs: list[object] = []
        self._outputs: list[object] = []
        self._initializers: dict[str, object] = {}
        self._domains = {""}

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declares an input; a dimension is a number or a symbol."""
        self._inputs.append(self._info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Declares a value as output."""
        self._outputs.append(self._info(name, dtype, shape))

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        domain: str = "",
    ) -> str:
        """Appends a node and returns the name of its first output; "" as an input leaves it out."""
        self._domains.add(domain)
        self._nodes.append(
            self._onnx.helper.make_node(
                op, inputs, outputs, name=f"{op}/{outputs[0]}", domain=domain, **(attributes or {})
            )
        )
        return outputs[0]

    def constant(self, key: str, dtype: str, shape: Sequence[int], make: Constant) -> str:
        """Adds a constant, once per model, its bytes once per data file."""
        if key not in self._initializers:
            self._initializers[key] = self._data.tensor(key, dtype, shape, make)
        return key

    def alias(self, key: str, name: str) -> str:
        """A second constant over the bytes of the first, for compilers that go by names."""
        if name not in self._initializers:
            tensor = self._onnx.TensorProto()
            tensor.CopyFrom(self._initializers[key])
            tensor.name = name
            self._initializers[name] = tensor
        return name

    def integers(self, values: Sequence[int]) -> str:
        """A one-dimensional int64 constant (axes, shapes, bounds)."""
        key = f"int64.{'_'.join(map(str, values))}"
        return self.constant(key, "INT64", [len(values)], lambda: np.asarray(values, np.int64))

    def number(self, value: float) -> str:
        """A float32 scalar."""
        array = np.asarray(value, np.float32)
        return self.constant(f"float32.{float(array)!r}", "FLOAT", [], lambda: array)

    def save(self, path: Path) -> None:
        """Writes the model, without the data file.

        Raises:
            EmitError: it is too large for one protobuf message.
        """
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values())
        )
        versions = {"": ONNX_OPSET}
        opsets = [helper.make_opsetid(domain, versions.get(domain, 1)) for domain in sorted(self._domains)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="edgesdk"
        )
        if model.ByteSize() > _FILE_LIMIT_BYTES:
            raise EmitError(f"{path.name} has {model.ByteSize()} bytes without its data, ONNX allows 2 GiB")
        path.write_bytes(model.SerializeToString())

    def _info(self, name: str, dtype: str, shape: Sequence[int | str]) -> object:
        kind = getattr(self._onnx.TensorProto, dtype)
        info: object = self._onnx.helper.make_tensor_value_info(name, kind, shape)
        return info
