"""Cuts a step graph into parts of limited size that hand the residual stream on.

A cut is a place where one value of T rows is all that later nodes need of earlier ones: between halves
of blocks, after the embedding, before the last norm. Parts are filled in order, each as far as the limit
goes, which gives the fewest. A weight that two parts read (an embedding that is the head too) stands in
both. It knows no files and no Core ML.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

from edgesdk.errors import EmitError
from edgesdk_converters.graph.graph import Graph, GraphBuilder, Node
from edgesdk_converters.graph.ops import Embed, Linear


def split_graph(
    graph: Graph, size_of: Callable[[Sequence[Node]], int], limit_bytes: int
) -> tuple[Graph, ...]:
    """Cuts a graph.

    Args:
        graph: a step graph.
        size_of: bytes of a package that runs these nodes.
        limit_bytes: most of one part.

    Returns:
        Parts in order. Each has the inputs that it reads, and what it makes of the outputs; the stream is
        an output of one and an input of the next, under its own name.

    Raises:
        EmitError: a piece that cannot be cut is larger than the limit.
    """
    pieces = list(_pieces(graph))
    groups: list[list[Node]] = []
    for piece in pieces:
        if groups and size_of([*groups[-1], *piece]) <= limit_bytes:
            groups[-1] += piece
            continue
        if size_of(piece) > limit_bytes:
            largest = max(size_of(other) for other in pieces)
            raise EmitError(
                f"{_describe(piece)} alone takes {_megabytes(size_of(piece))} MB, the limit of a package is "
                f"{limit_bytes / 1e6:g} MB; give at least {_megabytes(largest)}, or store it in fewer bits"
            )
        groups.append(list(piece))
    return tuple(_part(graph, groups, at) for at in range(len(groups)))


def _pieces(graph: Graph) -> Iterator[list[Node]]:
    """The nodes between cuts."""
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    live: set[str] = set()
    piece: list[Node] = []
    for i, node in enumerate(graph.nodes):
        if piece and len(live) == 1 and graph.values[next(iter(live))].shape[0] == "T":
            yield piece
            piece = []
        piece.append(node)
        live -= {name for name in node.inputs if last_use[name] == i}
        live |= {name for name in node.outputs if last_use.get(name, -1) > i}
    yield piece


def _part(graph: Graph, groups: Sequence[Sequence[Node]], at: int) -> Graph:
    """Part `at` as a graph of its own."""
    nodes = groups[at]
    made = {name for node in nodes for name in node.outputs}
    later = {name for group in groups[at + 1 :] for node in group for name in node.inputs}
    read = {name for node in nodes for name in node.inputs}
    everywhere = {name for node in graph.nodes for name in node.inputs}
    constants = {value.name for value in graph.weights}
    own = {value.name for value in graph.inputs}
    builder = GraphBuilder()
    for value in graph.inputs:
        # What nothing reads is an input of the whole all the same, and belongs to the first part.
        if value.name in read or (at == 0 and value.name not in everywhere):
            builder.input(value.name, value.shape, value.dtype)
    for name in sorted(read - made - constants - own):
        builder.input(name, graph.values[name].shape)
    for value in graph.weights:
        if value.name in read:
            builder.weight(value.name, value.shape)
    for node in nodes:
        builder.add(node.op, node.inputs, *node.outputs)
    outputs = [name for name in graph.outputs if name in made]
    return builder.build([*outputs, *sorted((made & later) - set(outputs))])


def _megabytes(count: int) -> str:
    """Rounded up, so that a limit of it is enough."""
    return f"{math.ceil(count / 1e3) / 1e3:.3f}"


def _describe(nodes: Collection[Node]) -> str:
    """A piece by the weights that make it large."""
    names = [node.inputs[1] for node in nodes if isinstance(node.op, (Linear, Embed))]
    return f"what reads {names[0]!r} to {names[-1]!r}" if len(names) > 1 else f"what reads {names[:1]}"
