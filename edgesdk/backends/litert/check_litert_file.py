"""Verifies a LiteRT file before LiteRT sees it: every offset, index, shape and size, against a closed list.

LiteRT trusts what it loads: a damaged file can end the process. So the flatbuffer is read here first
(schema.fbs of LiteRT), every operator must be one that edgesdk writes and give the shape that the file says,
every constant must have the bytes that its shape needs, and the signatures must have the inputs and outputs
that the step contract of the manifest binds memory for. Weights are not read. It takes about a seventh of a
second for a file of 4,000 operators, so who loads a file remembers that it was right.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgesdk.backends.litert.check_signature import LitertContract, check_contract
from edgesdk.backends.litert.check_sparse import stored_elements
from edgesdk.backends.litert.flatbuffer import Flatbuffer, FlatbufferError, Table
from edgesdk.backends.litert.keep_signatures import changed_places
from edgesdk.backends.litert.operator_shapes import (
    BITS,
    FLOAT16,
    FLOAT32,
    INT4,
    INT8,
    INT32,
    OPERATORS,
    VECTOR,
    Operand,
    Operator,
    OperatorError,
)
from edgesdk.backends.say_damage import say_damage
from edgesdk.bundle.step_names import WIDE

_IDENTIFIER = b"TFL3"
_VERSION = 3
_ALIGNMENT_BYTES = 16
_BLOCKWISE = 2
_MOST_GRAPHS = 256
_MOST_ITEMS = 200_000  # operators, tensors, buffers
_MOST_DIMENSIONS = 6
_MOST_OPERANDS = 64
_SMALL_ELEMENTS = 64  # axes, bounds and shapes
_MODEL_FIELDS = {0, 1, 2, 3, 4, 7}
_TENSOR_FIELDS = {0, 1, 2, 3, 4, 6, 7, 8}


@dataclass
class _Graph:
    """One subgraph: its tensors, and which of them have a value where its inputs have one."""

    operands: list[Operand]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    made: set[int] = field(default_factory=set)
    picked_by: dict[int, int] = field(default_factory=dict)
    """Smallest table, in rows, that an input picks from."""


def check_litert_file(path: Path, contract: LitertContract) -> None:
    """Checks a file.

    Args:
        path: the file.
        contract: what the manifest says of it.

    Raises:
        BundleError: it is damaged, or no file that edgesdk writes.
        DeviceError: it is another file than its manifest says.
    """
    with (
        say_damage(path, FlatbufferError, OperatorError),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        _LitertFile(Flatbuffer(data), len(data)).check(contract)


class _LitertFile:
    """One file on its way through the checks."""

    def __init__(self, flat: Flatbuffer, size: int) -> None:
        self._flat = flat
        self._size = size

    def check(self, contract: LitertContract) -> None:
        flat = self._flat
        model = flat.root(_IDENTIFIER)
        if flat.scalar(model, 0, "I") != _VERSION or not set(flat.present(model)) <= _MODEL_FIELDS:
            raise FlatbufferError("it is of another version, or has parts that no file of edgesdk has")
        graph_tables = flat.tables(model, 2, _MOST_GRAPHS)
        signatures = [(table, flat.scalar(table, 4, "I")) for table in flat.tables(model, 7, _MOST_GRAPHS)]
        if len({index for _, index in signatures}) < len(signatures):
            raise FlatbufferError("two signatures have one graph")
        flat.reserve(changed_places(flat), (model, *graph_tables, *(table for table, _ in signatures)))
        flat.expect_free(model.at, model.size)
        codes = [self._code(table) for table in flat.tables(model, 1, _MOST_ITEMS)]
        self._buffers = [self._buffer(table) for table in flat.tables(model, 4, _MOST_ITEMS)]
        graphs = [self._graph(table, codes) for table in graph_tables]
        if not graphs or not self._buffers:
            raise FlatbufferError("it holds no graph")
        named = {}
        for table, index in signatures:
            key, inputs, outputs, graph = self._signature(table, index, graphs)
            if key in named:
                raise FlatbufferError(f"two signatures are called {key[:40]!r}")
            named[key] = (inputs, outputs, graph)
        largest = {step.signature: step for step in sorted(contract.steps)}
        # A signature that is a step's own and the careful form of another's must be right for both.
        for (name, step), form in itertools.product(largest.items(), ("", WIDE)):
            name = f"{name}{form}"
            if name in named:
                inputs, outputs, graph = named[name]
                check_contract(
                    contract,
                    step,
                    {label: graph.operands[place] for label, place in inputs.items()},
                    {label: graph.operands[place] for label, place in outputs.items()},
                    {n: graph.picked_by[at] for n, at in inputs.items() if at in graph.picked_by},
                )

    def _code(self, table: Table) -> tuple[Operator, int]:
        flat = self._flat
        if flat.scalar(table, 1, "I"):
            raise OperatorError("it has an operator of another library")
        code = max(flat.scalar(table, 0, "b"), flat.scalar(table, 3, "i"))
        operator = OPERATORS.get(code)
        version = flat.scalar(table, 2, "i", 1)
        if operator is None or version not in operator.versions:
            name = f"number {code}" if operator is None else operator.name
            raise OperatorError(
                f"it has the operator {name} in version {version}, which edgesdk does not write"
            )
        return operator, version

    def _buffer(self, table: Table) -> int | tuple[int, int]:
        """Place and size of its bytes; 0 for none."""
        flat = self._flat
        offset, size = flat.scalar(table, 1, "Q"), flat.scalar(table, 2, "Q")
        start, count = flat.vector(table, 0, 1)
        if offset > 1 or size > 1:  # 0 and 1 mean "inside the flatbuffer"
            if count or offset > self._size or size > self._size - offset:
                raise FlatbufferError("a constant lies outside the file")
            start, count = offset, size
            flat.expect_free(start, count)
        if not count:
            return 0
        if start % _ALIGNMENT_BYTES:
            raise FlatbufferError("a constant is not aligned")
        return start, count

    def _graph(self, table: Table, codes: Sequence[tuple[Operator, int]]) -> _Graph:
        flat = self._flat
        if not set(flat.present(table)) <= {0, 1, 2, 3, 4}:
            raise FlatbufferError("a graph has parts that no file of edgesdk has")
        tensors = flat.tables(table, 0, _MOST_ITEMS)
        flat.text(table, 4)
        operands = [self._tensor(tensor, len(tensors)) for tensor in tensors]
        inputs, outputs = flat.integers(table, 1, _MOST_ITEMS), flat.integers(table, 2, _MOST_ITEMS)
        graph = _Graph(operands, inputs, outputs)
        for index in (*inputs, *outputs):
            if not 0 <= index < len(operands):
                raise FlatbufferError("an input or output is a tensor that is not there")
        if len(set(inputs)) < len(inputs) or len(set(outputs)) < len(outputs) or set(inputs) & set(outputs):
            raise FlatbufferError("a tensor is an input or output twice")
        if any(operands[index].constant for index in (*inputs, *outputs)):
            raise FlatbufferError("an input or output is a constant")
        self._check_scales(tensors, operands)
        graph.made.update(inputs)
        for operator in flat.tables(table, 3, _MOST_ITEMS):
            self._operator(operator, codes, graph)
        if not graph.made.issuperset(outputs):
            raise FlatbufferError("an output is made by nothing")
        return graph

    def _tensor(self, table: Table, count: int) -> Operand:
        flat = self._flat
        if not set(flat.present(table)) <= _TENSOR_FIELDS:
            raise FlatbufferError("a tensor has parts that no file of edgesdk has")
        shape, kind = flat.integers(table, 0, _MOST_DIMENSIONS), flat.scalar(table, 1, "b")
        if kind not in BITS or any(size < 1 for size in shape):
            raise FlatbufferError(f"a tensor of type {kind} has the shape {shape}")
        stated = flat.integers(table, 7, _MOST_DIMENSIONS)
        if stated and (
            len(stated) != len(shape) or any(s not in (-1, n) for s, n in zip(stated, shape, strict=True))
        ):
            raise FlatbufferError(f"a tensor of shape {shape} may be resized to {stated}")
        flat.text(table, 3)
        index = flat.scalar(table, 2, "I")
        if index >= len(self._buffers):
            raise FlatbufferError("a constant is not there")
        place = self._buffers[index]
        elements = math.prod(shape)
        sparsity = flat.child(table, 6)
        if sparsity is not None:
            if isinstance(place, int) or stated or kind not in (FLOAT32, FLOAT16):
                raise FlatbufferError(f"a sparse tensor of shape {shape} is no constant of numbers")
            kept = stored_elements(flat, sparsity, shape)
            if place[1] * 8 != kept * BITS[kind] or elements > self._size << 16:
                raise FlatbufferError(f"a sparse constant has {place[1]} bytes, expected {kept} elements")
            return Operand(shape, kind, constant=True, sparse=True)
        if isinstance(place, int):
            if index or elements > self._size << 16:
                raise FlatbufferError(f"a tensor of shape {shape} has no elements")
            return Operand(shape, kind)
        expected = (elements * BITS[kind] + 7) // 8
        if place[1] != expected or stated:
            raise FlatbufferError(f"a constant of shape {shape} has {place[1]} bytes, expected {expected}")
        values = None
        if kind == INT32 and len(shape) in (1, 2) and elements <= _SMALL_ELEMENTS:
            values = tuple(int(value) for value in flat.array(place[0], elements, "i4"))
        return Operand(shape, kind, values, constant=True)

    def _check_scales(self, tensors: Sequence[Table], operands: Sequence[Operand]) -> None:
        """Integers have one scale, or one a row, or, four bits wide, one a block in another tensor."""
        flat = self._flat
        for table, operand in zip(tensors, operands, strict=True):
            scales = flat.child(table, 4)
            if scales is None:
                if operand.type == INT4:
                    raise FlatbufferError("numbers of four bits have no scales")
                continue
            if not set(flat.present(scales)) <= {2, 3, 4, 5, 6} or flat.scalar(scales, 6, "i"):
                raise FlatbufferError("scales lie along another axis")
            rows = operand.shape[0] if operand.shape else 1
            kind = flat.scalar(scales, 4, "B")
            start, count = flat.vector(scales, 2, 4)
            zeros, zero_count = flat.vector(scales, 3, 8)
            if kind == 0:
                fits = count in (1, rows) and zero_count == count and 5 not in flat.present(scales)
                if not fits or not np.isfinite(flat.array(start, count, "f4")).all():
                    raise FlatbufferError(f"a tensor of shape {operand.shape} has {count} scales")
                if flat.array(zeros, zero_count, "i8").any():
                    raise FlatbufferError("a scale has a zero point")
                continue
            self._check_blocks(scales, kind, count or zero_count, operand, operands)

    def _check_blocks(
        self, scales: Table, kind: int, others: int, operand: Operand, operands: Sequence[Operand]
    ) -> None:
        flat = self._flat
        details = flat.child(scales, 5)
        if kind != _BLOCKWISE or details is None or others or operand.type != INT4 or len(operand.shape) != 2:
            raise FlatbufferError("a tensor has scales of an unknown kind")
        index, block = flat.scalar(details, 0, "i"), flat.scalar(details, 2, "i")
        zero = flat.scalar(details, 1, "i")
        known = set(flat.present(details)) <= {0, 1, 2} and zero == -1 and 0 <= index < len(operands)
        if not known or block < 1 or operand.shape[1] % block:
            raise FlatbufferError("a tensor has scales of an unknown kind")
        found = operands[index]
        expected = (operand.shape[0], operand.shape[1] // block)
        if found.shape != expected or found.type != FLOAT16 or not found.constant or found.sparse:
            raise FlatbufferError(
                f"scales of blocks have the shape {found.shape}, expected {expected}, every one of them there"
            )

    def _operator(self, table: Table, codes: Sequence[tuple[Operator, int]], graph: _Graph) -> None:
        flat = self._flat
        index = flat.scalar(table, 0, "I")
        if index >= len(codes) or not set(flat.present(table)) <= {0, 1, 2, 3, 4}:
            raise OperatorError("an operator has parts that no file of edgesdk has")
        operator, version = codes[index]
        inputs = flat.integers(table, 1, _MOST_OPERANDS)
        outputs = flat.integers(table, 2, _MOST_OPERANDS)
        least, most = operator.operands
        if not least <= len(inputs) <= most or len(outputs) != 1:
            raise OperatorError(f"{operator.name} has {len(inputs)} operands and {len(outputs)} results")
        operands: list[Operand | None] = []
        for place in inputs:
            if place == -1:
                operands.append(None)
                continue
            if not 0 <= place < len(graph.operands):
                raise OperatorError(f"{operator.name} reads a tensor that is not there")
            if place not in graph.made and not graph.operands[place].constant:
                raise OperatorError(f"{operator.name} reads what nothing has made yet")
            if graph.operands[place].sparse != (operator.name == "DENSIFY"):
                raise OperatorError(f"{operator.name} reads a constant that it cannot")
            operands.append(graph.operands[place])
        (place,) = outputs
        taken = not 0 <= place < len(graph.operands) or place in graph.made or graph.operands[place].constant
        if taken:
            raise OperatorError(f"{operator.name} writes to a tensor that is taken")
        out = graph.operands[place]
        result = operator.rule(operands, self._options(table, operator), out)
        if (result.shape, result.type) != (out.shape, out.type):
            raise OperatorError(f"{operator.name} gives {result.shape}, the file says {out.shape}")
        _check_version(operator, version, operands)
        if operator.name == "GATHER" and operands[0] is not None:
            if inputs[1] not in graph.inputs:  # whose values the host writes, within known bounds
                raise OperatorError("GATHER picks rows by what is no input")
            rows = operands[0].shape[0]
            graph.picked_by[inputs[1]] = min(rows, graph.picked_by.get(inputs[1], rows))
        graph.made.add(place)

    def _options(self, table: Table, operator: Operator) -> Mapping[str, int]:
        flat = self._flat
        options = flat.child(table, 4)
        kind = flat.scalar(table, 3, "B")
        if kind not in (0, operator.options) or (options is None) != (kind == 0):
            raise OperatorError(f"{operator.name} has the options of another operator")
        values = {}
        for number, (name, code) in operator.fields.items():
            if code == VECTOR:
                if options is not None:
                    flat.integers(options, number, _MOST_DIMENSIONS)
                continue
            values[name] = 0 if options is None else flat.scalar(options, number, code)
        if options is not None and not set(flat.present(options)) <= set(operator.fields):
            raise OperatorError(f"{operator.name} has options that edgesdk does not write")
        return values

    def _signature(
        self, table: Table, index: int, graphs: Sequence[_Graph]
    ) -> tuple[str, Mapping[str, int], Mapping[str, int], _Graph]:
        flat = self._flat
        if index >= len(graphs):
            raise FlatbufferError("a signature has no graph")
        graph = graphs[index]
        inputs, outputs = self._names(table, 0), self._names(table, 1)
        if set(inputs.values()) != set(graph.inputs) or set(outputs.values()) != set(graph.outputs):
            raise FlatbufferError("a signature and its graph differ")
        return flat.text(table, 2), inputs, outputs, graph

    def _names(self, table: Table, number: int) -> Mapping[str, int]:
        pairs = self._flat.tables(table, number, _MOST_ITEMS)
        names = {self._flat.text(pair, 0): self._flat.scalar(pair, 1, "I") for pair in pairs}
        if len(names) != len(pairs) or len(set(names.values())) != len(names):
            raise FlatbufferError("a signature names something twice")
        return names


def _check_version(operator: Operator, version: int, operands: Sequence[Operand | None]) -> None:
    """Kernels read weights by the version that the file states."""
    if operator.name == "FULLY_CONNECTED" and operands[1] is not None:
        least = {FLOAT32: 5, INT8: 5, INT4: 12}[operands[1].type]
        if version < least:
            raise OperatorError(f"{operator.name} {version} has no such weights")
