"""Attention of texts that stand side by side in a pass, which computes little of what nobody may see.

The numbers are those of `evaluate`, but for the order in which a row's weights are summed.
"""

from __future__ import annotations

import numpy as np

from edgesdk_converters.graph.evaluate import LOWERINGS, Namespace
from edgesdk_converters.graph.ops import Attend
from edgesdk_converters.graph.weights import Array

_ROWS = 16
"""That attend together, to what any of them sees."""


def _attend_apart(
    op: Attend, xp: Namespace, q: Array, k_new: Array, v_new: Array, mask: Array, k: Array, v: Array
) -> tuple[Array]:
    S = k.shape[1]
    out = np.empty_like(q)
    for start in range(0, len(q), _ROWS):
        rows = slice(start, start + _ROWS)
        seen = np.flatnonzero(mask[rows].max(axis=0) == 0)
        old, new = seen[seen < S], seen[seen >= S] - S
        parts = (k_new[:, new], v_new[:, new], mask[rows][:, seen], k[:, old], v[:, old])
        (out[rows],) = LOWERINGS[Attend](op, xp, q[rows], *parts)
    return (out,)


APART = {**LOWERINGS, Attend: _attend_apart}
"""Lowerings for `evaluate` with numpy; every row must see something, itself as a rule."""
