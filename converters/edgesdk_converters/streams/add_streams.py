"""Makes the rows of a model's step able to be streams: what `train streams` has learnt, as part of the graph.

    streams (T, G)   an input: 1 in column j - 1 of a row that is stream j
    sources (T,)     an input of the form streams: the row whose state a row goes on with where streams begin

A stream's row begins with the learned state (masks), or with its token's plus the learned one (streams), and
its products have low-rank parts, whose gate is the sum of the row of `streams`. In a token's row both add 0,
exactly. In the form streams the rows of streams run through the blocks below for nothing: their state there
is replaced. It comes before every other transform.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.bundle.stack_record import SOURCES, STREAMS
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, GraphBuilder
from edgesdk_converters.graph.low_rank_term import STREAM_INNER, STREAM_WRITTEN, add_term, term_weights
from edgesdk_converters.graph.ops import Add, Linear, LowRank, TakeRows
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, Weights
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint
from edgesdk_converters.streams.stream_config import START, StreamConfig, adapted_weights
from edgesdk_converters.streams.stream_start import stream_before

BEGIN, ANY = "streams.start", "streams.any"
"""Weights (E, G) and (1, G): what a stream begins with, and a row of ones."""

_ENDS = (STREAM_INNER, STREAM_WRITTEN)


def add_streams(program: Program, streams: StreamCheckpoint) -> Program:
    """Returns the program with streams; rows of tokens stay what they are, to the bit.

    Args:
        program: the model that they were trained for, as its checkpoint has it.
        streams: as `fit_streams` gives them.

    Raises:
        TransformError: the program has streams, or low-rank parts of adapters.
    """
    graph, config = program.graph, streams.config
    names = adapted_weights(config, program.spec)
    if STREAMS in graph.values or any(isinstance(node.op, LowRank) for node in graph.nodes):
        raise TransformError("the program has streams or adapters already; write one of the two into a file")
    added = {
        BEGIN: Derived((program.spec.hidden_size, config.count), lambda base: _begin(base, program, streams)),
        ANY: Derived((1, config.count), lambda base: np.ones((1, config.count), np.float32)),
    }
    for name in names:
        a, b = (np.asarray(streams.tensors[f"{name}.{side}"], np.float32) for side in "AB")
        added |= term_weights(name, a, b, _ENDS)
    return dataclasses.replace(
        program,
        graph=_grown(program, config, dict.fromkeys(names, config.rank)),
        weights=DerivedWeights(program.weights, added, frozenset()),
        history=(
            *program.history,
            TransformRecord("add_streams", {"streams": config.count, "products": len(names)}),
        ),
    )


def is_of_streams(name: str) -> bool:
    """Whether a weight is there for rows of streams alone."""
    return name.startswith("streams.") or name.endswith(_ENDS)


def _begin(base: Weights, program: Program, streams: StreamCheckpoint) -> Array:
    """(E, G) what is added to the state of a stream's row where it begins."""
    start = np.asarray(streams.tensors[START], np.float32)
    if streams.config.form == "masks":
        # The row of a stream has token 0, whose embedding is there already.
        start = start - base.load("embed")[:1] * np.float32(program.spec.embedding_scale)
    return np.ascontiguousarray(start.T)


def _grown(program: Program, config: StreamConfig, ranks: Mapping[str, int]) -> Graph:
    graph, spec = program.graph, program.spec
    start = stream_before(graph, spec, config.first)
    g = GraphBuilder()
    for value in graph.inputs:
        g.input(value.name, value.shape, value.dtype)
    g.input(STREAMS, ("T", config.count))
    if config.form == "streams":
        g.input(SOURCES, ("T",), "int32")
    for value in graph.weights:
        g.weight(value.name, value.shape)
    begin = g.weight(BEGIN, (spec.hidden_size, config.count))
    (gate,) = g.add(Linear(), [STREAMS, g.weight(ANY, (1, config.count))], f"{ANY}.out")
    given: dict[str, str] = {}
    for node in graph.nodes:
        inputs = [given.get(name, name) for name in node.inputs]
        rank = ranks.get(node.inputs[1]) if isinstance(node.op, Linear) else None
        if rank is None:
            g.add(node.op, inputs, *node.outputs)
        else:
            add_term(g, graph, inputs, node.outputs[0], (rank,), gate, _ENDS)
        if start in node.outputs:
            x = start
            if config.form == "streams":
                (x,) = g.add(TakeRows(), [x, SOURCES], f"{start}.sources")
            (term,) = g.add(Linear(), [STREAMS, begin], f"{BEGIN}.out")
            (given[start],) = g.add(Add(), [x, term], f"{start}.streams")
    return g.build(graph.outputs)
