"""What is added to one product: a gated term of low rank, as numbers, and what a graph calls its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.graph import Graph, GraphBuilder
from edgesdk_converters.graph.ops import Linear, LowRank, LowRankPart
from edgesdk_converters.graph.weights import Array, Derived

INNER, WRITTEN = ".lora_a", ".lora_b"
"""What the names of A and of B end in, behind the name of the weight that they go with."""

STREAM_INNER, STREAM_WRITTEN = ".stream_a", ".stream_b"
"""The same of what rows of streams alone have: recipes tell them from an adapter's by their names."""


@dataclass(frozen=True)
class LowRankTerm:
    """What is added to the product with one weight (O, I).

    Attributes:
        ranks: for each gate, 0 where it adds nothing here; their sum is N.
        inner: A (N, I) float32, the rows of all gates in order.
        written: B (O, N) float32, scales included: a gate of 1 is the term as it was trained.
    """

    ranks: tuple[int, ...]
    inner: NDArray[np.float32]
    written: NDArray[np.float32]


def add_term(
    builder: GraphBuilder,
    graph: Graph,
    inputs: Sequence[str],
    out: str,
    ranks: tuple[int, ...],
    gates: str,
    ends: tuple[str, str] = (INNER, WRITTEN),
) -> None:
    """Adds a product with its term of low rank, whose A and B become weights.

    Args:
        builder: of the new graph.
        graph: that has the product.
        inputs: of the product in the new graph: its input, its weight, and its bias if it has one.
        out: what it makes.
        ranks: for each gate.
        gates: (M, G) for the rows of the product.
        ends: of the names of A and B.
    """
    x, weight = inputs[:2]
    width, columns = (int(size) for size in graph.values[weight].shape)
    inner = builder.weight(f"{weight}{ends[0]}", (sum(ranks), columns))
    written = builder.weight(f"{weight}{ends[1]}", (width, sum(ranks)))
    (plain,) = builder.add(Linear(), inputs, f"{out}.plain")
    (made,) = builder.add(Linear(), [x, inner], f"{inner}.out")
    builder.add(LowRank((LowRankPart(width, ranks),)), [plain, made, gates, written], out)


def term_weights(
    name: str, inner: Array, written: Array, ends: tuple[str, str] = (INNER, WRITTEN)
) -> dict[str, Derived]:
    """A and B of the term beside one weight, under their names."""
    return {
        f"{name}{end}": Derived(array.shape, lambda base, array=array: array)  # type: ignore[misc]
        for end, array in zip(ends, (inner, written), strict=True)
    }


def is_inner(graph: Graph, value: str) -> bool:
    """Whether a value is nothing but what terms of low rank are made from."""
    users = graph.users(value)
    return (
        bool(users)
        and value not in graph.outputs
        and all(isinstance(user.op, LowRank) and user.inputs[1] == value for user in users)
    )
