"""Rotates the residual stream: exact in floating point, kinder to integers.

Transformers put a few channels of the residual stream far above the rest; whatever quantises a row
by its largest value then loses the others. An orthogonal matrix folded into everything that reads
or writes the stream spreads those channels out. An RMS norm without weight does not see it.
(QuaRot, arXiv 2404.00456, section 4, stage 1a; SpinQuant, arXiv 2405.16406, section 3.1, "R1".)

A norm whose weight cannot be folded (a tied head reads it, or an output beside the logits) gets the matrix
R' diag(w) R behind it, NORM.rotation, one E x E product per row, and the table stays one tensor. A value of
the stream that is an output itself is turned back by OUTPUT.rotation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, Node, Value, rebuild
from edgesdk_converters.graph.low_rank_term import is_inner
from edgesdk_converters.graph.ops import Add, Embed, Linear, LowRank, RmsNorm, Scale, TakeRows
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, Weights, load_rows
from edgesdk_converters.transforms.flat_rotation import FlatRotation

ROTATION = ".rotation"
"""What the name of a matrix ends in that only the turned stream needs."""


def can_rotate(program: Program) -> bool:
    """Whether nothing norms what joins the stream."""
    return not program.spec.post_norms


def rotate_residual(program: Program, seed: int = 0) -> Program:
    """Returns the program with its residual stream rotated at random; exact but for rounding.

    Args:
        program: after `fold_norms`, or every norm costs a product.
        seed: of the rotation.

    Raises:
        TransformError: something reads or makes the stream that cannot be turned with it.
    """
    if not can_rotate(program):
        raise TransformError(
            f"{program.spec.architecture} norms what its blocks add; its stream cannot rotate"
        )
    graph, E = program.graph, program.spec.hidden_size
    turn = FlatRotation(E, seed)
    stream = _stream(graph)
    changed = {
        name: _change(program.weights, name, turn, sides) for name, sides in _turned(graph, stream).items()
    }
    given = {name: f"{name}.turned" for name in graph.outputs if name in stream}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(given.get(name, name) for name in node.inputs)
        outputs = tuple(given.get(name, name) for name in node.outputs)
        if isinstance(node.op, RmsNorm) and len(inputs) == 2 and inputs[0] in stream | {*given.values()}:
            norm, unit = inputs[1], f"{node.outputs[0]}.unit"
            changed[norm + ROTATION] = Derived((E, E), lambda base, n=norm: _between(base.load(n), turn))  # type: ignore[misc]
            nodes.append(Node(node.op, inputs[:1], (unit,)))
            nodes.append(Node(Linear(), (unit, norm + ROTATION), outputs))
        else:
            nodes.append(Node(node.op, inputs, outputs))
        for name in given.keys() & {*node.outputs}:
            changed[name + ROTATION] = Derived((E, E), lambda base: turn.matrix().astype(np.float32))
            nodes.append(Node(Linear(), (given[name], name + ROTATION), (name,)))
    read = {name for node in nodes for name in node.inputs}
    added = [Value(name, (E, E)) for name in changed if name.endswith(ROTATION)]
    removed = frozenset(value.name for value in graph.weights) - read
    return Program(
        spec=program.spec,
        graph=rebuild(graph, nodes, [*(w for w in graph.weights if w.name in read), *added]),
        weights=DerivedWeights(program.weights, changed, removed),
        history=(*program.history, TransformRecord("rotate_residual", {"seed": seed})),
    )


def stream_rotation(program: Program) -> NDArray[np.float64] | None:
    """R (E, E) of a program whose stream holds x R in place of x; None where it holds x."""
    seeds = [r.settings["seed"] for r in program.history if r.name == "rotate_residual"]
    return FlatRotation(program.spec.hidden_size, int(seeds[-1])).matrix() if seeds else None


def _stream(graph: Graph) -> set[str]:
    """Values that live in the residual stream, or are its norm.

    Raises:
        TransformError: one is made or read by an operation that a rotation does not pass through.
    """
    stream: set[str] = set()
    for node in graph.nodes:
        passes = isinstance(node.op, TakeRows | RmsNorm | Scale | LowRank) and node.inputs[0] in stream
        if passes or (isinstance(node.op, Embed) and not is_inner(graph, node.outputs[0])):
            stream.update(node.outputs)
        elif isinstance(node.op, Add):
            if node.inputs[0] not in stream:
                raise TransformError(f"{node.outputs[0]!r} adds to something that is not the residual stream")
            # The other term was made by a linear layer, perhaps with a term of low rank or scaled, and joins
            # the stream.
            stream.update((*node.inputs, *node.outputs))
            made = graph.producer(node.inputs[1])
            while made is not None and isinstance(made.op, Scale | LowRank):
                stream.add(made.inputs[0])
                made = graph.producer(made.inputs[0])
    given = stream & {value.name for value in graph.inputs}
    if given:
        raise TransformError(f"the input {min(given)!r} joins the residual stream; it cannot rotate")
    for node in graph.nodes:
        what = type(node.op).__name__
        if stream.intersection(node.outputs):
            if not isinstance(node.op, Embed | TakeRows | RmsNorm | Scale | Add | Linear | LowRank) or (
                isinstance(node.op, RmsNorm) and node.inputs[0] not in stream
            ):
                raise TransformError(
                    f"{what} makes {node.outputs[0]!r} of the residual stream; it cannot rotate"
                )
        elif stream.intersection(node.inputs) and not isinstance(node.op, Linear):
            raise TransformError(
                f"{what} makes {node.outputs[0]!r} from the residual stream; it cannot rotate"
            )
    return stream


def _turned(graph: Graph, stream: set[str]) -> dict[str, tuple[bool, bool]]:
    """Of every weight that turns with the stream, whether its rows and whether its columns do.

    Raises:
        TransformError: a weight turns for one of its readers and not for another.
    """
    sides: dict[str, tuple[bool, bool]] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Embed | Linear | LowRank):
            continue
        makes = not isinstance(node.op, Embed) and node.outputs[0] in stream
        entry = node.outputs if isinstance(node.op, Embed) else node.inputs
        reads = not isinstance(node.op, LowRank) and entry[0] in stream
        for name in node.inputs[3 if isinstance(node.op, LowRank) else 1 :]:
            turned = (makes, reads and len(graph.values[name].shape) == 2)
            if sides.setdefault(name, turned) != turned:
                raise TransformError(
                    f"the weight {name!r} is used inside and outside the residual stream; it cannot rotate"
                )
    return {name: turned for name, turned in sides.items() if any(turned)}


def _change(weights: Weights, name: str, turn: FlatRotation, sides: tuple[bool, bool]) -> Derived:
    rows, columns = sides

    def compute(base: Weights) -> Array:
        weight = turn.turn_back(base.load(name)) if rows else base.load(name)
        return turn.turn(weight) if columns else weight

    def some(base: Weights, start: int, stop: int) -> Array:
        return turn.turn(load_rows(base, name, start, stop))

    return Derived(weights.shape(name), compute, rows=some if columns and not rows else None)


def _between(norm: Array, turn: FlatRotation) -> Array:
    rotation = turn.matrix()
    return (rotation.T @ (norm.astype(np.float64)[:, None] * rotation)).astype(np.float32)
