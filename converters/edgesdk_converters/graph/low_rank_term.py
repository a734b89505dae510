"""What is added to one product: a gated term of low rank, as numbers, and what a graph calls its parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.ops import LowRank

INNER, WRITTEN = ".lora_a", ".lora_b"
"""What the names of A and of B end in, behind the name of the weight that they go with."""


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


def is_inner(graph: Graph, value: str) -> bool:
    """Whether a value is nothing but what terms of low rank are made from."""
    users = graph.users(value)
    return (
        bool(users)
        and value not in graph.outputs
        and all(isinstance(user.op, LowRank) and user.inputs[1] == value for user in users)
    )
