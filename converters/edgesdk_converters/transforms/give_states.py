"""Makes the state of every token a second output: (T, E), the last norm, in the checkpoint's own basis.

What is pooled from all tokens of a text needs no logits of them: the rows for the head are taken after the
norm, so that a step with one row still gives every state. As with `give_hidden`, what transforms do later
leaves it what it is.
"""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.stack_record import STATES
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, GraphBuilder
from edgesdk_converters.graph.ops import RmsNorm, TakeRows
from edgesdk_converters.graph.program import Program
from edgesdk_converters.transforms.head_product import head_product


def give_states(program: Program) -> Program:
    """Returns the program with the output `states` (T, E) beside its own.

    Raises:
        TransformError: the head does not read a norm of rows, or the program has that output already.
    """
    return replace(program, graph=_with_states(program.graph))


def _with_states(graph: Graph) -> Graph:
    read = head_product(graph).inputs[0]
    norm = graph.producer(read)
    taken = None if norm is None else graph.producer(norm.inputs[0])
    if (
        norm is None
        or taken is None
        or not isinstance(norm.op, RmsNorm)
        or not isinstance(taken.op, TakeRows)
    ):
        raise TransformError("the head does not read a norm of the wanted rows, so states have no place")
    if len(graph.users(norm.inputs[0])) > 1 or STATES in graph.values:
        raise TransformError("something else reads the wanted rows; give the states first")
    g = GraphBuilder()
    for given in graph.inputs:
        g.input(given.name, given.shape, given.dtype)
    for weight in graph.weights:
        g.weight(weight.name, weight.shape)
    for node in graph.nodes:
        if node is taken:
            g.add(norm.op, [taken.inputs[0], *norm.inputs[1:]], STATES)
        elif node is norm:
            g.add(taken.op, [STATES, *taken.inputs[1:]], read)
        else:
            g.add(node.op, node.inputs, *node.outputs)
    return g.build([*graph.outputs, STATES])
