"""Leaves out of a graph what rows of streams alone need, for sizes that can have none.

A stream stands behind a token of its step, so a step of one token has no stream: what is added for one is
zero, and the row goes on with its own state. Emitters call it for those sizes. It knows neither how streams
begin nor which products have parts: it follows the inputs `streams` and `sources`, which stay inputs.
"""

from __future__ import annotations

from edgesdk.bundle.stack_record import SOURCES, STREAMS
from edgesdk_converters.graph.graph import Graph, Node, rebuild
from edgesdk_converters.graph.ops import Add, Linear, LowRank, Split, TakeRows


def leave_out_streams(graph: Graph) -> Graph:
    """The graph of a step in which every row is a token's; the same graph where it has no streams."""
    if STREAMS not in graph.values:
        return graph
    nothing = {STREAMS}
    same: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        kept = _kept(node, inputs, nothing) if node.outputs[0] not in graph.outputs else None
        if kept is not None:
            same[node.outputs[0]] = kept
            continue
        if isinstance(node.op, Linear | TakeRows | Split) and inputs[0] in nothing and len(inputs) < 3:
            nothing.update(node.outputs)
        nodes.append(Node(node.op, inputs, node.outputs))
    return rebuild(graph, nodes, graph.weights)


def _kept(node: Node, inputs: tuple[str, ...], nothing: set[str]) -> str | None:
    """The input that a node hands on as it is; None where it does something."""
    if isinstance(node.op, LowRank) and inputs[2] in nothing:
        return inputs[0]
    if isinstance(node.op, Add) and not nothing.isdisjoint(inputs):
        return inputs[1] if inputs[0] in nothing else inputs[0]
    if isinstance(node.op, TakeRows) and inputs[1] == SOURCES:
        return inputs[0]
    return None
