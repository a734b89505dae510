"""A graph of typed operations in execution order, and the builder that checks every shape.

Values have names; a value is an input, a weight, or the output of exactly one node. Transforms never
change a graph: they build another. It knows no files, no quantisation, no target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from edgesdk.errors import TransformError
from edgesdk_converters.graph.ops import Op, Shape

DType = Literal["float32", "int32"]


@dataclass(frozen=True)
class Value:
    """A named tensor of the graph."""

    name: str
    shape: Shape
    dtype: DType = "float32"


@dataclass(frozen=True)
class Node:
    """One operation: `outputs = op(inputs)`, all by name."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which every value is made before it is read.

    Attributes:
        inputs: what the caller gives.
        weights: constants, read by name from a `Weights`.
        nodes: operations in order.
        outputs: names of values that the caller gets.
        values: every value by name.
    """

    inputs: tuple[Value, ...]
    weights: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]

    def producer(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs and weights."""
        return next((node for node in self.nodes if name in node.outputs), None)

    def users(self, name: str) -> tuple[Node, ...]:
        """The nodes that read a value."""
        return tuple(node for node in self.nodes if name in node.inputs)


class GraphBuilder:
    """Adds nodes one by one, refusing unknown names, second definitions and wrong shapes."""

    def __init__(self) -> None:
        """An empty graph."""
        self._inputs: list[Value] = []
        self._weights: list[Value] = []
        self._nodes: list[Node] = []
        self._values: dict[str, Value] = {}

    def input(self, name: str, shape: Shape, dtype: DType = "float32") -> str:
        """Declares an input and returns its name."""
        self._inputs.append(self._define(Value(name, shape, dtype)))
        return name

    def weight(self, name: str, shape: Shape) -> str:
        """Declares a weight (once; a second time with the same shape is the same weight)."""
        known = self._values.get(name)
        if known is None:
            self._weights.append(self._define(Value(name, shape)))
        elif known.shape != shape:
            raise TransformError(f"weight {name!r} is used as {shape} and as {known.shape}")
        return name

    def add(self, op: Op, inputs: Iterable[str], *names: str) -> tuple[str, ...]:
        """Appends a node.

        Args:
            op: the operation.
            inputs: names it reads.
            *names: names of its outputs.

        Returns:
            The output names.

        Raises:
            TransformError: an input is unknown, a name is taken, or shapes do not fit.
        """
        inputs = tuple(inputs)
        for name in inputs:
            if name not in self._values:
                raise TransformError(f"{type(op).__name__} reads {name!r}, which nothing has made")
        shapes = op.infer(*(self._values[name].shape for name in inputs))
        if len(shapes) != len(names):
            raise TransformError(f"{type(op).__name__} makes {len(shapes)} values, got {len(names)} names")
        for name, shape in zip(names, shapes, strict=True):
            self._define(Value(name, shape))
        self._nodes.append(Node(op, inputs, names))
        return names

    def build(self, outputs: Iterable[str]) -> Graph:
        """Finishes the graph; weights and values that no output needs are left out."""
        outputs = tuple(outputs)
        missing = [name for name in outputs if name not in self._values]
        if missing:
            raise TransformError(f"output {missing[0]!r} is not a value of the graph")
        needed = set(outputs)
        kept: list[Node] = []
        for node in reversed(self._nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        made = needed | {name for node in kept for name in node.outputs} | {v.name for v in self._inputs}
        return Graph(
            inputs=tuple(self._inputs),
            weights=tuple(w for w in self._weights if w.name in needed),
            nodes=tuple(reversed(kept)),
            outputs=outputs,
            values={name: value for name, value in self._values.items() if name in made},
        )

    def _define(self, value: Value) -> Value:
        if value.name in self._values:
            raise TransformError(f"the graph already has a value named {value.name!r}")
        self._values[value.name] = value
        return value


def rebuild(graph: Graph, nodes: Iterable[Node], weights: Iterable[Value]) -> Graph:
    """Checks and builds a changed graph with the inputs and outputs of another.

    Raises:
        TransformError: the change left the graph inconsistent.
    """
    builder = GraphBuilder()
    for value in graph.inputs:
        builder.input(value.name, value.shape, value.dtype)
    for value in weights:
        builder.weight(value.name, value.shape)
    for node in nodes:
        builder.add(node.op, node.inputs, *node.outputs)
    return builder.build(graph.outputs)
