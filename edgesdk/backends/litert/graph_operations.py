"""Reads what one signature of a LiteRT file computes: its operators, their names, their weights.

For profiles: operators are named by their first output, as `edgesdk_converters/emit/litert` names
tensors. It reads offsets in place and never copies a weight. It knows nothing of what runs the file.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.errors import DeviceError

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import Model, Operator, SubGraph


@dataclass(frozen=True)
class GraphOperation:
    """One operator of a signature.

    Attributes:
        kind: as the schema calls it, such as `FULLY_CONNECTED`.
        name: of its first output.
        weight_bytes: of constants that one run reads; of a table that is gathered from, the rows alone.
    """

    kind: str
    name: str
    weight_bytes: int


@dataclass(frozen=True)
class SignatureGraph:
    """One signature.

    Attributes:
        index: among the file's signatures.
        inputs: names of its inputs, in order.
        outputs: names of its outputs, in order.
        operations: in the order of execution.
    """

    index: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: tuple[GraphOperation, ...]


def read_signature(path: Path, signature: str) -> SignatureGraph:
    """Reads one signature of a LiteRT file.

    Args:
        path: the file.
        signature: its name.

    Raises:
        DeviceError: the file has no such signature, is damaged, or the schema is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise DeviceError(f"LiteRT cannot be imported: {error}") from error
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = schema.Model.GetRootAs(data, 0)
            for index in range(model.SignatureDefsLength()):
                found = model.SignatureDefs(index)
                if found.SignatureKey().decode() == signature:
                    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
                    graph = model.Subgraphs(found.SubgraphIndex())
                    return SignatureGraph(
                        index,
                        tuple(found.Inputs(i).Name().decode() for i in range(found.InputsLength())),
                        tuple(found.Outputs(i).Name().decode() for i in range(found.OutputsLength())),
                        tuple(
                            _operation(model, graph, graph.Operators(i), kinds)
                            for i in range(graph.OperatorsLength())
                        ),
                    )
    except (struct.error, AttributeError, IndexError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise DeviceError(f"{path.name} is no readable LiteRT file; convert the bundle again") from error
    raise DeviceError(f"the LiteRT file has no signature {signature!r}; convert it again")


def _operation(model: Model, graph: SubGraph, operator: Operator, kinds: dict[int, str]) -> GraphOperation:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Codes up to 127 once fitted a byte, and old readers look there.
    kind = kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM")
    sizes = [_constant_bytes(model, graph, operator.Inputs(i)) for i in range(operator.InputsLength())]
    name = graph.Tensors(operator.Outputs(0)).Name().decode()
    if kind == "GATHER" and sizes[0]:
        table = graph.Tensors(operator.Inputs(0))
        rows = graph.Tensors(operator.Inputs(1))
        sizes[0] = sizes[0] // max(1, table.Shape(0)) * _elements(rows)
    return GraphOperation(kind, name, sum(sizes))


def _constant_bytes(model: Model, graph: SubGraph, tensor: int) -> int:
    if tensor < 0:  # an optional input that is left out
        return 0
    buffer = model.Buffers(graph.Tensors(tensor).Buffer())
    return int(buffer.Size() or buffer.DataLength())  # files beyond 2 GB keep data behind the flatbuffer


def _elements(tensor: object) -> int:
    count = 1
    for i in range(tensor.ShapeLength()):  # type: ignore[attr-defined]
        count *= tensor.Shape(i)  # type: ignore[attr-defined]
    return count
