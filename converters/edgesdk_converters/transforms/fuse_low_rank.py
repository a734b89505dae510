"""Adds terms of low rank to a fused product before it is split: one operation in place of three.

q, k and v are one product after `fuse_linears`, and so are the A of their terms. Added behind the split, the
terms would be three operations, and the split parts no heads that an emitter can rotate together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgesdk.bundle.manifest import TransformRecord
from edgesdk_converters.graph.graph import Graph, Node, rebuild
from edgesdk_converters.graph.ops import LowRank, LowRankPart, Split
from edgesdk_converters.graph.program import Program


def fuse_low_rank(program: Program) -> Program:
    """Returns the program with the terms of every fused product added at once; every number stays.

    Args:
        program: after `fuse_linears`; one without terms of low rank is returned as it is.
    """
    graph = program.graph
    found = [made for node in graph.nodes if (made := _fused(graph, node)) is not None]
    if not found:
        return program
    placed = {fused.split.outputs[0]: fused for fused in found}
    gone = {name for fused in found for name in fused.gone}
    nodes: list[Node] = []
    for node in graph.nodes:
        fused = placed.get(node.outputs[0])
        if fused is not None:
            nodes.extend(fused.nodes)
        elif node.outputs[0] not in gone:
            nodes.append(node)
    return replace(
        program,
        graph=rebuild(graph, _in_order(graph, nodes), graph.weights),
        history=(*program.history, TransformRecord("fuse_low_rank", {"groups": len(found)})),
    )


@dataclass(frozen=True)
class _Fused:
    """What becomes of a split product.

    Attributes:
        split: the node that is replaced.
        nodes: by what.
        gone: first outputs of the nodes that are not needed any more.
    """

    split: Node
    nodes: tuple[Node, ...]
    gone: tuple[str, ...]


def _fused(graph: Graph, split: Node) -> _Fused | None:
    """The terms of a split product as one, where each part has one of its own or none."""
    if not isinstance(split.op, Split):
        return None
    terms = [_term(graph, part) for part in split.outputs]
    some = [term for term in terms if term is not None]
    gates = {term.inputs[2] for term in some}
    inner = _inner(graph, [term.inputs[1] for term in some])
    if len(gates) != 1 or inner is None:
        return None
    (name,), (h, apart) = gates, inner
    count = int(graph.values[name].shape[1])
    parts: list[LowRankPart] = []
    for term, width in zip(terms, split.op.sizes, strict=True):
        parts += [LowRankPart(width, (0,) * count)] if term is None else _op(term).parts
    total = f"{split.inputs[0]}.adapted"
    written = [name for term in some for name in term.inputs[3:]]
    pairs = zip(split.outputs, terms, strict=True)
    outputs = [part if term is None else term.outputs[0] for part, term in pairs]
    nodes = (
        Node(LowRank(tuple(parts)), (split.inputs[0], h, name, *written), (total,)),
        Node(split.op, (total,), tuple(outputs)),
    )
    return _Fused(split, nodes, (*(term.outputs[0] for term in some), *apart))


def _term(graph: Graph, part: str) -> Node | None:
    """The term that is added to a part, which nothing else reads."""
    users = graph.users(part)
    if len(users) != 1 or part in graph.outputs or not isinstance(users[0].op, LowRank):
        return None
    return users[0] if users[0].inputs[0] == part else None


def _op(term: Node) -> LowRank:
    assert isinstance(term.op, LowRank)
    return term.op


def _inner(graph: Graph, made: list[str]) -> tuple[str, tuple[str, ...]] | None:
    """What all terms are made from, side by side, and the outputs of a split that nothing needs then."""
    if len(made) == 1:
        return made[0], ()
    split = graph.producer(made[0]) if made else None
    if split is None or not isinstance(split.op, Split) or list(split.outputs) != made:
        return None
    if any(len(graph.users(name)) != 1 or name in graph.outputs for name in made):
        return None
    return split.inputs[0], (split.outputs[0],)


def _in_order(graph: Graph, nodes: list[Node]) -> list[Node]:
    """The nodes with each behind what it reads: A's product may stand behind the one that it goes with."""
    known = {value.name for value in (*graph.inputs, *graph.weights)}
    placed: list[Node] = []
    waiting: list[Node] = []
    for node in nodes:
        waiting.append(node)
        while ready := next((n for n in waiting if known.issuperset(n.inputs)), None):
            waiting.remove(ready)
            placed.append(ready)
            known.update(ready.outputs)
    return placed + waiting
