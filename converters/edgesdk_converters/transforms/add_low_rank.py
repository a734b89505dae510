"""Adds gated terms of low rank to products of a decoder: what LoRA adapters are at run time.

y = W x becomes W x + B ((A x) * gates'), where each token has a factor for every gate: 0 for none. A is a
linear layer beside W, so whatever changes what W reads changes A with it; B is read by `LowRank`. It knows
neither where A and B come from nor what a gate stands for. It comes before every other transform but those
that leave tokens or layers out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.bundle.stack_record import GATES
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, GraphBuilder, Node
from edgesdk_converters.graph.low_rank_term import LowRankTerm as LowRankTerm  # part of this verb
from edgesdk_converters.graph.low_rank_term import add_term, term_weights
from edgesdk_converters.graph.ops import Linear, TakeRows
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights


def add_low_rank(program: Program, terms: Mapping[str, LowRankTerm], gates: int) -> Program:
    """Returns the program with an input `gates` (T, G), and the terms added to its products.

    Args:
        program: as its checkpoint has it.
        terms: by the name of the weight; each is read by one linear layer, or is the table of a tied head.
        gates: G.

    Raises:
        TransformError: no product has such a weight, shapes do not fit, or the program has gates already.
    """
    graph = program.graph
    products = {node.inputs[1]: node for node in graph.nodes if isinstance(node.op, Linear)}
    for name, term in terms.items():
        _check(graph, products, name, term, gates)
    if GATES in graph.values:
        raise TransformError("the program has gates already; add all terms of low rank at once")
    if not terms:
        raise TransformError("there is no term of low rank to add")
    added: dict[str, Derived] = {}
    for name, term in terms.items():
        added |= term_weights(name, term.inner, term.written)
    return dataclasses.replace(
        program,
        graph=_grown(graph, terms, gates),
        weights=DerivedWeights(program.weights, added, frozenset()),
        history=(
            *program.history,
            TransformRecord("add_low_rank", {"gates": gates, "products": len(terms)}),
        ),
    )


def _check(graph: Graph, products: Mapping[str, Node], name: str, term: LowRankTerm, gates: int) -> None:
    if name not in products:
        raise TransformError(f"no product has the weight {name!r} that a term of low rank goes with")
    rows, columns = graph.values[name].shape
    rank = sum(term.ranks)
    shapes = term.inner.shape, term.written.shape
    ranked = len(term.ranks) == gates and min(term.ranks) >= 0 and rank > 0
    if not ranked or shapes != ((rank, columns), (rows, rank)):
        raise TransformError(
            f"a term of low rank for {name!r} {(rows, columns)} has ranks {term.ranks} and matrices "
            f"{shapes[0]} and {shapes[1]}, expected {gates} ranks of sum N, (N, {columns}) and ({rows}, N)"
        )
    if not all(np.isfinite(array).all() for array in (term.inner, term.written)):
        raise TransformError(f"a term of low rank for {name!r} holds numbers that are not finite")


def _grown(graph: Graph, terms: Mapping[str, LowRankTerm], gates: int) -> Graph:
    g = GraphBuilder()
    for value in graph.inputs:
        g.input(value.name, value.shape, value.dtype)
    g.input(GATES, ("T", gates))
    for value in graph.weights:
        g.weight(value.name, value.shape)
    rows = {"T": GATES}
    for node in graph.nodes:
        term = terms.get(node.inputs[1]) if isinstance(node.op, Linear) else None
        if term is None:
            g.add(node.op, node.inputs, *node.outputs)
            continue
        x = node.inputs[0]
        count = graph.values[x].shape[0]
        if count == "R" and "R" not in rows:
            (rows["R"],) = g.add(TakeRows(), [GATES, "rows"], f"{GATES}.rows")
        if count not in rows:
            raise TransformError(f"{x!r} has rows of its own, to which no gates belong")
        add_term(g, graph, node.inputs, node.outputs[0], term.ranks, rows[str(count)])
    return g.build(graph.outputs)
