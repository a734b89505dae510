"""Makes what the head reads a second output: (R, E), rows of the last norm, in the checkpoint's own basis.

Trained drafts start from it, embeddings are pooled from it. Given to a program before all transforms but
those that leave out tokens or layers, it stays what it is: the norm's weight is then not folded, and where
the stream is rotated, the output is turned back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edgesdk.bundle.stack_record import HIDDEN, STATES
from edgesdk_converters.graph.graph import Graph, GraphBuilder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.transforms.head_product import head_product


def give_hidden(program: Program) -> Program:
    """Returns the program with the output `hidden` (R, E) beside its own.

    Raises:
        TransformError: no product makes the logits, or the program has that output already.
    """
    graph = program.graph
    names = {head_product(graph).inputs[0]: HIDDEN}
    return replace(program, graph=_rebuilt(graph, names, [*graph.outputs, HIDDEN]))


def logits_alone(program: Program) -> Program:
    """Returns the program without that output and states, for targets that give logits only; at any time."""
    outputs = [name for name in program.graph.outputs if name not in (HIDDEN, STATES)]
    return replace(program, graph=_rebuilt(program.graph, {}, outputs))


def _rebuilt(graph: Graph, names: Mapping[str, str], outputs: Iterable[str]) -> Graph:
    """The graph with values under other names, and what makes these outputs."""
    g = GraphBuilder()
    for given in graph.inputs:
        g.input(given.name, given.shape, given.dtype)
    for weight in graph.weights:
        g.weight(weight.name, weight.shape)
    for node in graph.nodes:
        inputs, results = ([names.get(name, name) for name in side] for side in (node.inputs, node.outputs))
        g.add(node.op, inputs, *results)
    return g.build(outputs)
