"""Folds the scale of attention scores into what makes the queries: the q norm or the q projection.

Rotation is linear, so the scale passes through it. With a soft-cap the scale still stands before it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, Node, rebuild
from edgesdk_converters.graph.ops import Attend, Linear, RmsNorm, Rotate, SplitHeads
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights


def fold_attention_scale(program: Program) -> Program:
    """Returns the program with every attention scale 1; logits are equal in exact arithmetic."""
    graph = program.graph
    changed: dict[str, Derived] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node.op, Attend) and node.op.scale != 1.0:
            for weight in _query_weights(graph, node.inputs[0]):
                changed[weight] = Derived(
                    program.weights.shape(weight),
                    lambda base, w=weight, s=node.op.scale: base.load(w) * np.float32(s),  # type: ignore[misc]
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


def _query_weights(graph: Graph, query: str) -> tuple[str, ...]:
    """Weights whose scaling scales the query: the norm's if there is one, else the projection's."""
    node = graph.producer(query)
    while node is not None and isinstance(node.op, Rotate | SplitHeads):
        node = graph.producer(node.inputs[0])
    if node is None or not isinstance(node.op, RmsNorm | Linear) or len(node.inputs) < 2:
        raise TransformError(f"no weight makes the query {query!r}")
    return node.inputs[1:]
