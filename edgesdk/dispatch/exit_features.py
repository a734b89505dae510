"""What an exit is judged by: how sure the logits are, and how little the last block changed.

AdaInfer (Fan et al., IJCAI 2025, section 3.2): gap = P(1st) - P(2nd) and top_prob = P(1st) of the softmax
over all tokens, or here over some labels only; and, for its ablation, the cosines of what two blocks in a row
add and of the stream before and after the last. It chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float

LOGIT_FEATURES = ("gap", "top_prob")
"""Of the logits of an exit."""

COSINES = ("cos_attention", "cos_feed_forward", "cos_hidden")
"""Of a block and the one before it: what attention added, what the feed-forward added, the stream."""

FEATURES = (*LOGIT_FEATURES, *COSINES)
"""Every feature, in the order in which `exit_features` gives them."""

Logits = NDArray[np.float32] | NDArray[np.float64]

_TINY = 1e-12


def exit_features(logits: Logits, stream: Float, changes: Sequence[Float | None]) -> NDArray[np.float64]:
    """Features of one row.

    Args:
        logits: (V,) of the exit, or (labels,) of a head over labels.
        stream: (E,) after the last block.
        changes: each of `exit_record.CHANGES` in that row: (E,).

    Returns:
        (5,), in the order of `FEATURES`.
    """
    first, second = top_chances(logits)
    attention, before, feed_forward, ff_before, stream_before = changes
    return np.array(
        [
            first - second,
            first,
            _cosine(attention, before),
            _cosine(feed_forward, ff_before),
            _cosine(stream, stream_before),
        ]
    )


def top_chances(logits: Logits) -> tuple[float, float]:
    """The two largest probabilities of a softmax."""
    best = int(logits.argmax())
    largest = logits[best]
    chances = np.exp(logits - largest)
    total = float(chances.sum(dtype=np.float64))
    chances[best] = 0.0
    return 1.0 / total, float(chances.max()) / total


def _cosine(one: Float | None, other: Float | None) -> float:
    if one is None or other is None:
        return 0.0
    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / max(norms, _TINY)
