"""Folds the weight of an RMS norm into the linear layers that read it: one product less per norm.

`linear(norm(x) * w)` is `linear'(norm(x))` with columns of the weight scaled by w. Only where every
reader is a linear layer whose weight nothing else uses: a tied head keeps its norm.
"""

from __future__ import annotations

from edgesdk.bundle.manifest import TransformRecord
from edgesdk_converters.graph.graph import Graph, Node, rebuild
from edgesdk_converters.graph.ops import Linear, RmsNorm
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights, load_rows


def fold_norms(program: Program) -> Program:
    """Returns the program with foldable norm weights folded; logits are equal in exact arithmetic."""
    graph = program.graph
    changed: dict[str, Derived] = {}
    folded: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node.op, RmsNorm) and _foldable(graph, node):
            norm = node.inputs[1]
            for user in graph.users(node.outputs[0]):
                weight = user.inputs[1]
                changed[weight] = Derived(
                    program.weights.shape(weight),
                    lambda base, w=weight, n=norm: base.load(w) * base.load(n)[None, :],  # type: ignore[misc]
                    rows=lambda base, start, stop, w=weight, n=norm: (  # type: ignore[misc]
                        load_rows(base, w, start, stop) * base.load(n)[None, :]
                    ),
                )
            folded.add(norm)
            nodes.append(Node(node.op, node.inputs[:1], node.outputs))
        else:
            nodes.append(node)
    removed = folded - {name for node in nodes for name in node.inputs}  # another norm may share a weight
    return Program(
        spec=program.spec,
        graph=rebuild(graph, nodes, (v for v in graph.weights if v.name not in removed)),
        weights=DerivedWeights(program.weights, changed, frozenset(removed)),
        history=(*program.history, TransformRecord("fold_norms", {"folded": len(folded)})),
    )


def _foldable(graph: Graph, norm: Node) -> bool:
    if len(norm.inputs) < 2 or norm.outputs[0] in graph.outputs:
        return False
    users = graph.users(norm.outputs[0])
    return all(
        isinstance(user.op, Linear)
        and user.inputs[0] == norm.outputs[0]
        and len(graph.users(user.inputs[1])) == 1
        for user in users
    )
