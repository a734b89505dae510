"""Folds the scale of attention scores into what makes the queries: the q norm or the q projection.

Rotation is linear, so the scale passes through it. With a soft-cap the scale still stands before it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, Node, rebuild
from edgesdk_converters.graph.ops import Attend, Linear, LowRank, RmsNorm, Rotate, SplitHeads
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights, load_rows


def fold_attention_scale(program: Program) -> Program:
    """Returns the program with attention scales 1; outputs are equal in exact arithmetic.

    A scale stays where something besides its attention reads the queries, or the weights that make them.

    Raises:
        TransformError: no weight makes the queries of an attention.
    """
    graph = program.graph
    changed: dict[str, Derived] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        weights = _query_weights(graph, node) if isinstance(node.op, Attend) and node.op.scale != 1.0 else ()
        if isinstance(node.op, Attend) and weights:
            for weight in weights:
                changed[weight] = Derived(
                    program.weights.shape(weight),
                    lambda base, w=weight, s=node.op.scale: base.load(w) * np.float32(s),  # type: ignore[misc]
                    rows=lambda base, start, stop, w=weight, s=node.op.scale: (  # type: ignore[misc]
                        load_rows(base, w, start, stop) * np.float32(s)
                    ),
                )
            nodes.append(Node(dataclasses.replace(node.op, scale=1.0), node.inputs, node.outputs))
        else:
            nodes.append(node)
    return Program(
        spec=program.spec,
        graph=rebuild(graph, nodes, graph.weights),
        weights=DerivedWeights(program.weights, changed, frozenset()),
        history=(*program.history, TransformRecord("fold_attention_scale", {"folded": len(changed)})),
    )


def _query_weights(graph: Graph, attend: Node) -> tuple[str, ...]:
    """Weights whose scaling scales the query: the norm's if there is one, else the projection's.

    None where that would scale more than this attention's query.
    """
    value, alone = attend.inputs[0], True
    written: tuple[str, ...] = ()
    node = graph.producer(value)
    while node is not None:
        alone = alone and len(graph.users(value)) == 1 and value not in graph.outputs
        if not isinstance(node.op, Rotate | SplitHeads | LowRank):
            break
        if isinstance(node.op, LowRank):
            written = (*written, *node.inputs[3:])
        value = node.inputs[0]
        node = graph.producer(value)
    if node is None or not isinstance(node.op, RmsNorm | Linear) or len(node.inputs) < 2:
        raise TransformError(f"no weight makes the query {attend.inputs[0]!r}")
    scaled = (*node.inputs[1:], *written)
    alone = alone and all(len(graph.users(name)) == 1 for name in scaled)
    return scaled if alone else ()
