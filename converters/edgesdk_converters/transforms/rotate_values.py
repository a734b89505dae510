"""Rotates values within each head and the output projection back: exact, free at run time.

Attention mixes values of one head with scalars only, so an orthogonal matrix may stand between the
value projection and the output projection: one per KV head, shared by the query heads that read it.
Cells hold rotated values. (SpinQuant, arXiv 2405.16406, section 3.1, "R2"; QuaRot, arXiv 2404.00456,
section 4, stage 1b.) It knows nothing of the residual stream, which `rotate_residual` turns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.low_rank_term import is_inner
from edgesdk_converters.graph.ops import Attend, HeadsFirst, Linear, LowRank, MergeHeads, RmsNorm, SplitHeads
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights


def rotate_values(program: Program, seed: int = 0) -> Program:
    """Returns the program with the values of every head rotated at random; exact but for rounding.

    Args:
        program: before `fuse_linears`.
        seed: of the rotations.

    Raises:
        TransformError: something other than two projections stands around the values.
    """
    graph = program.graph
    changed: dict[str, Derived] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Attend):
            continue
        (_, H, _), (K, _, D) = (graph.values[name].shape for name in node.inputs[:2])
        # One for the cells of a layer, whoever reads them.
        first = seed + 1 + int(node.op.layer) * int(K)
        turns = np.stack([random_rotation(int(D), first + head) for head in range(int(K))])
        made, read = value_neighbours(graph, node)
        for name in made:
            changed[name] = Derived(
                program.weights.shape(name),
                lambda base, n=name, t=turns: _turn_rows(base.load(n), t),  # type: ignore[misc]
            )
        per_query = np.repeat(turns, int(H) // int(K), axis=0)
        for name in read:
            changed[name] = Derived(
                program.weights.shape(name),
                lambda base, n=name, t=per_query: _turn_rows(base.load(n).T, t).T,  # type: ignore[misc]
            )
    return Program(
        spec=program.spec,
        graph=graph,
        weights=DerivedWeights(program.weights, changed, frozenset()),
        history=(*program.history, TransformRecord("rotate_values", {"seed": seed})),
    )


def random_rotation(size: int, seed: int) -> NDArray[np.float64]:
    """An orthogonal matrix drawn uniformly (QR of a Gaussian matrix, signs fixed)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    rotation: NDArray[np.float64] = q * np.sign(np.diag(r))
    return rotation


def value_neighbours(graph: Graph, attend: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Weights whose rows make the values of an attention, and weights whose columns read its result.

    Raises:
        TransformError: something else stands there, or reads what they make.
    """
    made = _chain_up(graph, attend.inputs[2])
    merged = _only_user(graph, attend.outputs[0])
    read: tuple[str, ...] = ()
    if merged is not None and isinstance(merged.op, MergeHeads) and merged.outputs[0] not in graph.outputs:
        users = graph.users(merged.outputs[0])
        if all(isinstance(user.op, Linear) for user in users) and _one_product(graph, users):
            read = tuple(user.inputs[1] for user in users)
    if not made or not read or not all(len(graph.users(name)) == 1 for name in (*made, *read)):
        raise TransformError(f"{attend.outputs[0]!r} has no value and output projection of its own")
    return made, read


def _one_product(graph: Graph, users: tuple[Node, ...]) -> bool:
    """Whether readers are one product, perhaps with those that its terms of low rank are made by."""
    inner = [user for user in users if is_inner(graph, user.outputs[0])]
    return len(users) - len(inner) == 1


def _only_user(graph: Graph, value: str) -> Node | None:
    users = graph.users(value)
    return users[0] if len(users) == 1 and value not in graph.outputs else None


def _chain_up(graph: Graph, value: str) -> tuple[str, ...]:
    """Weights and biases that make the values of one layer's cells, which are outputs, too; or none.

    Several attentions may read those, which are turned alike; nothing else may.
    """
    layers = {node.op.layer if isinstance(node.op, Attend) else None for node in graph.users(value)}
    node = graph.producer(value) if len(layers) == 1 and None not in layers else None
    written: tuple[str, ...] = ()
    while node is not None and _passes(node):
        if isinstance(node.op, LowRank):
            written = (*written, *node.inputs[3:])
        value = node.inputs[0]
        node = None if _only_user(graph, value) is None else graph.producer(value)
    if node is None or not isinstance(node.op, Linear):
        return ()
    return (*node.inputs[1:], *written)


def _passes(node: Node) -> bool:
    """Whether a rotation of every head passes through: also a norm of heads, if it has no weight."""
    bare = isinstance(node.op, RmsNorm) and len(node.inputs) == 1
    return bare or isinstance(node.op, HeadsFirst | SplitHeads | LowRank)


def _turn_rows(weight: Array, turns: NDArray[np.float64]) -> Array:
    """Multiplies each head's rows (D of them) by its matrix; also takes a bias (heads * D,)."""
    heads, size, _ = turns.shape
    blocks = weight.reshape(heads, size, -1).astype(np.float64)
    turned = np.swapaxes(turns, 1, 2) @ blocks
    return turned.reshape(weight.shape).astype(np.float32)
