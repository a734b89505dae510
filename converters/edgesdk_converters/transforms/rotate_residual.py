"""Rotates the residual stream: exact in floating point, kinder to integers.

Transformers put a few channels of the residual stream far above the rest; whatever quantises a row
by its largest value then loses the others. An orthogonal matrix folded into everything that reads
or writes the stream spreads those channels out. An RMS norm without weight does not see it.
(QuaRot, arXiv 2404.00456, section 4, stage 1a; SpinQuant, arXiv 2405.16406, section 3.1, "R1".)

With a tied head, table and head rotate together: the final norm's weight w becomes the matrix
R' diag(w) R between norm and head, one E x E product per wanted row, and the table stays one tensor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, Node, Value, rebuild
from edgesdk_converters.graph.ops import Add, Embed, Linear, RmsNorm, Scale, TakeRows
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, Weights

_BETWEEN = "final_rotation"


def can_rotate(program: Program) -> bool:
    """Whether every norm on the stream is without weight, apart from the last."""
    return not program.spec.post_norms


def rotate_residual(program: Program, seed: int = 0) -> Program:
    """Returns the program with its residual stream rotated at random; exact but for rounding.

    Args:
        program: after `fold_norms`.
        seed: of the rotation.

    Raises:
        TransformError: a norm inside the stream has a weight.
    """
    if not can_rotate(program):
        raise TransformError(
            f"{program.spec.architecture} norms what its blocks add; its stream cannot rotate"
        )
    graph, E = program.graph, program.spec.hidden_size
    rotation = random_rotation(E, seed)
    stream = _stream(graph)
    changed: dict[str, Derived] = {}
    nodes: list[Node] = []
    weights = list(graph.weights)
    removed: set[str] = set()
    for node in graph.nodes:
        reads, writes = node.inputs[0] in stream, node.outputs[0] in stream
        if isinstance(node.op, Embed):
            changed[node.inputs[1]] = _change(program.weights, node.inputs[1], rotation, rows=False)
        elif isinstance(node.op, Linear) and writes:
            for name in node.inputs[1:]:
                changed[name] = _change(program.weights, name, rotation, rows=True)
        elif isinstance(node.op, Linear) and reads:
            changed[node.inputs[1]] = _change(program.weights, node.inputs[1], rotation, rows=False)
        if isinstance(node.op, RmsNorm) and len(node.inputs) == 2 and reads:
            norm, out = node.inputs[1], node.outputs[0]
            changed[_BETWEEN] = Derived((E, E), lambda base, n=norm: _between(base.load(n), rotation))  # type: ignore[misc]
            weights.append(Value(_BETWEEN, (E, E)))
            removed.add(norm)
            nodes.append(Node(node.op, node.inputs[:1], (f"{out}.unit",)))
            nodes.append(Node(Linear(), (f"{out}.unit", _BETWEEN), (out,)))
        else:
            nodes.append(node)
    return Program(
        spec=program.spec,
        graph=rebuild(graph, nodes, (w for w in weights if w.name not in removed)),
        weights=DerivedWeights(program.weights, changed, frozenset(removed)),
        history=(*program.history, TransformRecord("rotate_residual", {"seed": seed})),
    )


def random_rotation(size: int, seed: int) -> NDArray[np.float64]:
    """An orthogonal matrix drawn uniformly (QR of a Gaussian matrix, signs fixed)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    rotation: NDArray[np.float64] = q * np.sign(np.diag(r))
    return rotation


def _stream(graph: Graph) -> set[str]:
    """Values that live in the residual stream, or are its norm."""
    stream: set[str] = set()
    for node in graph.nodes:
        passes = isinstance(node.op, TakeRows | RmsNorm | Scale) and node.inputs[0] in stream
        if isinstance(node.op, Embed) or passes:
            stream.update(node.outputs)
        elif isinstance(node.op, Add):
            if node.inputs[0] not in stream:
                raise TransformError(f"{node.outputs[0]!r} adds to something that is not the residual stream")
            # The other term was made by a linear layer, perhaps scaled, and joins the stream.
            stream.update((*node.inputs, *node.outputs))
            made = graph.producer(node.inputs[1])
            while made is not None and isinstance(made.op, Scale):
                stream.update(made.inputs)
                made = graph.producer(made.inputs[0])
    return stream


def _change(weights: Weights, name: str, rotation: NDArray[np.float64], *, rows: bool) -> Derived:
    turn = rotation.astype(np.float32)

    def compute(base: Weights) -> Array:
        return turn.T @ base.load(name) if rows else base.load(name) @ turn

    return Derived(weights.shape(name), compute)


def _between(norm: Array, rotation: NDArray[np.float64]) -> Array:
    return (rotation.T @ (norm.astype(np.float64)[:, None] * rotation)).astype(np.float32)
