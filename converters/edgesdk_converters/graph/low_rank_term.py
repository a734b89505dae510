"""What is added to one product: a gated term of low rank, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
