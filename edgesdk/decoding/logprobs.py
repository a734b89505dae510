"""Log-probabilities of what a model said, from its raw logits.

Raw means before penalties, biases, grammars and temperature: they say what the model believed, not
what it was allowed. So a token that a grammar left as the only choice can have a low one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Float


@dataclass(frozen=True)
class TokenLogprob:
    """How likely a chosen token was.

    Attributes:
        token: its id.
        logprob: natural logarithm of its probability; None if a grammar forced the token, so that the
            model was not asked.
        top: the likeliest tokens there, best first, each with its own.
    """

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


def logprobs_of(logits: Float, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log-probability of one token, and of the `count` likeliest.

    Args:
        logits: (V,) float32, of the model.
        token: the one chosen.
        count: how many of the likeliest, 0 for none; among equals the lowest ids come first.

    Returns:
        The token's, and (id, log-probability) of the likeliest, best first.
    """
    best = float(logits.max())
    total = best + float(np.log(np.exp(logits - np.float32(best)).sum(dtype=np.float64)))
    if not count:
        return float(logits[token]) - total, ()
    count = min(count, len(logits))
    limit = np.partition(logits, len(logits) - count)[len(logits) - count]
    ids = np.flatnonzero(logits >= limit)
    ids = ids[np.argsort(-logits[ids], kind="stable")][:count]
    return float(logits[token]) - total, tuple((int(i), float(logits[i]) - total) for i in ids)
