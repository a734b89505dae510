"""The arithmetic of drafts that were drawn: keep one, or draw from what is left; nothing is distorted.

A token drawn from q is kept with probability min(1, p / q), p being what the answer is to be drawn from; if
it is not, p becomes norm((p - q)+) and the next one that follows the same token has its turn. What comes out
is distributed as p, whatever q is. Further tokens were drawn from q without those before, so q loses what was
refused. It knows nothing of logits, sequences or trees.

Papers: Fast Inference from Transformers via Speculative Decoding (section 2.3 and appendix A.1); Recursive
Speculative Decoding: Accelerating LLM Inference via Sampling Without Replacement (section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.decoding.draft import Chances
from edgesdk.decoding.processors import Ids

Shares = NDArray[np.float64]


def accept_drawn(
    ids: Ids, p: Shares, drawn: Sequence[tuple[int, Chances]], random: np.random.Generator
) -> tuple[int | None, Shares]:
    """Keeps the first of the drawn tokens that may stay.

    Args:
        ids: (n,) tokens that may come next, ascending.
        p: (n,) their probabilities, which sum to 1.
        drawn: tokens that follow the same one, in the order in which they were drawn, each with the
            distribution that the first of them was drawn from.
        random: one number is drawn for each token that is looked at.

    Returns:
        The token, None if none may stay; and what to draw from in its stead: (n,), which sums to 1.
    """
    refused: list[int] = []
    for token, chances in drawn:
        q = _share_of(ids, chances, refused)
        at = int(np.searchsorted(ids, token))
        known = at < len(ids) and int(ids[at]) == token
        left = 1.0 - sum(chances.share(other) for other in refused)
        said = chances.share(token) / left if left > 0 else 0.0
        if known and random.random() * said < p[at]:
            return token, p
        remaining = np.maximum(p - q, 0.0)
        total = float(remaining.sum())
        if total <= 0:  # p = q but for rounding
            break
        p = remaining / total
        refused.append(token)
    return None, p


def _share_of(ids: Ids, chances: Chances, refused: Sequence[int]) -> Shares:
    """What a distribution without some tokens gives to each of `ids`: (n,)."""
    at = np.searchsorted(chances.ids, ids)
    held = chances.ids[np.minimum(at, len(chances.ids) - 1)] == ids
    q = np.where(held, chances.shares[np.minimum(at, len(chances.ids) - 1)], 0.0)
    if refused:
        q[np.isin(ids, refused)] = 0.0
        left = 1.0 - sum(chances.share(token) for token in refused)
        q = q / left if left > 0 else np.zeros_like(q)
    return q
