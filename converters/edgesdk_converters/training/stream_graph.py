"""The part of a decoder's graph that streams run through, twice: for the text, and for the streams of it.

Streams see keys and values of the text and give none that anybody else sees. So the text runs first, frozen,
and streams are new tokens over its cells: the step's own contract, and gradients for the rows of streams
alone. It knows no loss and no data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Graph, GraphBuilder, Node
from edgesdk_converters.streams.stream_start import stream_before
from edgesdk_converters.training.frozen_target import HIDDEN


@dataclass(frozen=True)
class StreamGraphs:
    """Two graphs that begin at the same value.

    Attributes:
        start: name of the residual stream (T, E) where streams begin; an input of both.
        text: gives new keys and values of the text, and what the head reads of it where that was asked for.
        rows: gives what the head reads of streams, with low-rank parts in it.
        cells: for each input of `rows` that holds cells the output of `text` that fills it.
    """

    start: str
    text: Graph
    rows: Graph
    cells: Mapping[str, str]


def stream_graphs(
    graph: Graph, spec: DecoderSpec, place: int, ranks: Mapping[str, int], *, whole: bool = False
) -> StreamGraphs:
    """Cuts a decoder.

    Args:
        graph: as `build_decoder` makes it.
        spec: of the decoder.
        place: of the first block that runs streams.
        ranks: of the low-rank parts, by weight.
        whole: whether the text goes on to what the head reads.

    Raises:
        UnsupportedOption: a block behind it reads what was before it.
    """
    start = stream_before(graph, spec, place)
    attends = [node for node in _nodes(graph, start, [HIDDEN]) if isinstance(node.op, ops.Attend)]
    cells = {node.inputs[side + 3]: node.inputs[side] for node in attends for side in (1, 2)}
    made = dict.fromkeys([*cells.values(), *([HIDDEN] if whole else [])])
    return StreamGraphs(
        start,
        _tail(graph, start, made, {}),
        _tail(graph, start, [HIDDEN], ranks),
        cells,
    )


def _nodes(graph: Graph, start: str, outputs: Iterable[str]) -> list[Node]:
    """What makes outputs of a value, in order.

    Raises:
        UnsupportedOption: they need more of the text than that.
    """
    needed, kept = set(outputs), list[Node]()
    for node in reversed(graph.nodes):
        if start not in node.outputs and needed.intersection(node.outputs):
            if isinstance(node.op, ops.Embed):
                raise UnsupportedOption(
                    "blocks behind the start of the streams read what blocks before it have made; let the "
                    "streams run in more layers"
                )
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]


def _tail(graph: Graph, start: str, outputs: Iterable[str], ranks: Mapping[str, int]) -> Graph:
    """What makes outputs of a value, which becomes an input."""
    outputs = tuple(outputs)
    nodes = _nodes(graph, start, outputs)
    read = {name for node in nodes for name in node.inputs}
    g = GraphBuilder()
    for given in graph.inputs:
        if given.name in read:
            g.input(given.name, given.shape, given.dtype)
    g.input(start, graph.values[start].shape)
    for weight in graph.weights:
        if weight.name in read:
            g.weight(weight.name, weight.shape)
    for node in nodes:
        rank = ranks.get(node.inputs[1]) if isinstance(node.op, ops.Linear) else None
        if rank is None:
            g.add(node.op, node.inputs, *node.outputs)
        else:
            _add_adapted(g, node, rank, graph)
    return g.build(outputs)


def _add_adapted(g: GraphBuilder, node: Node, rank: int, graph: Graph) -> None:
    """A product with a low-rank part for all of its rows."""
    x, weight = node.inputs[:2]
    rows, columns = graph.values[weight].shape
    down, up = g.weight(f"{weight}.A", (rank, columns)), g.weight(f"{weight}.B", (rows, rank))
    (out,) = node.outputs
    (base,) = g.add(node.op, node.inputs, f"{out}.frozen")
    (low,) = g.add(ops.Linear(), [x, down], f"{out}.low")
    (low,) = g.add(ops.Linear(), [low, up], f"{out}.part")
    g.add(ops.Add(), [base, low], out)
