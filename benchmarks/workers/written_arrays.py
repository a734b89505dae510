"""Digests of the weights in a bundle's files, whatever they are called there.

It reads LiteRT files, ONNX files and the weight files of Core ML packages, by the formats' own packages and
nothing of edgesdk, so that two checkouts are read alike. Numbers that only shape a graph (indices, axes,
sizes) are left out: int32, int64 and whatever is smaller than 64 bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LEAST_BYTES = 64
_SHAPES = ("int32", "int64", "bool")
_BLOB = struct.Struct("<IIQQ")
_BLOB_BYTES, _MARK = 64, 0xDEADBEEF


def written_arrays(folder: Path) -> dict[str, str]:
    """A name of every array by its digest, which says element type and bytes."""
    found: dict[str, str] = {}
    for pattern, read in (("*.tflite", _litert), ("*.onnx", _onnx), ("weight.bin", _coreml)):
        for path in sorted(folder.rglob(pattern)):
            for name, kind, data in read(path):
                if len(data) >= LEAST_BYTES and kind not in _SHAPES:
                    found.setdefault(f"{kind} {hashlib.sha256(data).hexdigest()[:16]}", name)
    return found


def _litert(path: Path) -> Iterator[tuple[str, str, bytes]]:
    from ai_edge_litert import schema_py_generated as schema

    kinds = {value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()}
    data = path.read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(i) for i in range(graph.TensorsLength())):
            name, scales = tensor.Name().decode(), tensor.Quantization()
            if scales is not None and scales.ScaleLength():
                yield f"{name} (scales)", "float32", scales.ScaleAsNumpy().tobytes()
            buffer = model.Buffers(tensor.Buffer())
            if buffer.DataLength():
                yield name, kinds[tensor.Type()], buffer.DataAsNumpy().tobytes()
            elif buffer.Size() > 1:  # behind the flatbuffer, where it outgrows 2 GB
                yield name, kinds[tensor.Type()], data[buffer.Offset() : buffer.Offset() + buffer.Size()]


def _onnx(path: Path) -> Iterator[tuple[str, str, bytes]]:
    import onnx

    graph = onnx.load(path).graph
    constants = [
        (node.output[0], attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    for name, tensor in [*((each.name, each) for each in graph.initializer), *constants]:
        values = onnx.numpy_helper.to_array(tensor, str(path.parent))
        yield name, str(values.dtype), values.tobytes()


def _coreml(path: Path) -> Iterator[tuple[str, str, bytes]]:
    data = np.memmap(path, np.uint8, mode="r")
    at = _BLOB_BYTES
    while at + _BLOB.size <= len(data):
        mark, kind, count, start = _BLOB.unpack(data[at : at + _BLOB.size].tobytes())
        if mark != _MARK:
            raise ValueError(f"{path.name} has no blob at {at}")
        yield f"blob at {at}", f"type {kind}", data[start : start + count].tobytes()
        at = -(-(start + count) // _BLOB_BYTES) * _BLOB_BYTES
