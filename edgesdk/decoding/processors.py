"""What changes logits before a token is chosen: small pure functions, to be composed.

Two kinds. *Biases* act on the logits of the whole vocabulary and return a copy: repetition, presence
and frequency penalties, and a bias by token. *Filters* act on candidates (ids with their logits) and
drop some of them: what a grammar or a ban forbids, temperature, top-k, top-p, min-p and typical. A
filter always keeps the most likely candidate. Nothing here knows sequences, text or random numbers.

Papers: CTRL (section 4.1, repetition penalty); The Curious Case of Neural Text Degeneration (section 3,
top-p); Turning Up the Heat: Min-p Sampling (section 3); Locally Typical Sampling (section 4). Presence
and frequency penalties have no paper: they follow the formula that hosted services document.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float

Ids = NDArray[np.int64]
Candidates = tuple[Ids, Float]
"""Token ids and their logits, both (n,); whatever is not among them has probability 0."""

Filter = Callable[[Candidates], Candidates]

_TOP_P_HEADS = (64, 1024)
"""How many of the most likely tokens to look at first for top-p."""


def penalise(logits: Float, seen: NDArray[np.bool_], penalty: float) -> Float:
    """A copy of `logits` with those of `seen` tokens made less likely (CTRL, section 4.1)."""
    ids = np.flatnonzero(seen)
    before = logits[ids]
    held = logits.copy()
    held[ids] = np.where(before > 0, before / np.float32(penalty), before * np.float32(penalty))
    return held


def penalise_counts(logits: Float, counts: NDArray[np.int32], presence: float, frequency: float) -> Float:
    """A copy of `logits`, less `presence` for tokens that were chosen, less `frequency` for each time.

    Args:
        logits: (V,) float32.
        counts: (V,) how often each token was chosen.
        presence: taken off once; below 0 makes repetition likelier.
        frequency: taken off `counts` times.
    """
    ids = np.flatnonzero(counts)
    held = logits.copy()
    held[ids] -= np.float32(presence) + np.float32(frequency) * counts[ids].astype(np.float32)
    return held


def add_bias(logits: Float, ids: Ids, bias: Float) -> Float:
    """A copy of `logits` with `bias` added to those of `ids`."""
    held = logits.copy()
    held[ids] += bias
    return held


def heat(temperature: float) -> Filter:
    """Divides logits by `temperature`."""

    def apply(candidates: Candidates) -> Candidates:
        ids, logits = candidates
        # Relative to the best first: dividing by a tiny temperature must not overflow.
        with np.errstate(over="ignore"):
            return ids, (logits - logits.max()) / np.float32(max(temperature, 1e-30))

    return apply


def keep_top_k(count: int) -> Filter:
    """Keeps the `count` most likely tokens; among equals the lowest ids."""

    def apply(candidates: Candidates) -> Candidates:
        ids, logits = candidates
        if count >= len(ids):
            return candidates
        limit = np.partition(logits, len(ids) - count)[len(ids) - count]
        above = logits > limit
        level = np.flatnonzero(logits == limit)[: count - int(above.sum())]
        above[level] = True
        return ids[above], logits[above]

    return apply


def keep_top_p(share: float) -> Filter:
    """Keeps the fewest most likely tokens whose probabilities sum to at least `share`."""

    def apply(candidates: Candidates) -> Candidates:
        total = weights(candidates[1]).sum(dtype=np.float64)
        # Sorting a whole vocabulary takes as long as running a small model: the head nearly always does.
        for count in (*_TOP_P_HEADS, len(candidates[0])):
            ids, logits = keep_top_k(count)(candidates)
            order = np.argsort(-logits, kind="stable")
            sums = np.cumsum(weights(logits[order]).astype(np.float64))
            if sums[-1] >= share * total:
                break
        kept = np.sort(order[: int(np.searchsorted(sums, share * total)) + 1])
        return ids[kept], logits[kept]

    return apply


def keep_min_p(share: float) -> Filter:
    """Drops tokens less likely than `share` times the most likely one."""

    def apply(candidates: Candidates) -> Candidates:
        ids, logits = candidates
        kept = logits >= logits.max() + np.float32(math.log(share))
        return ids[kept], logits[kept]

    return apply


def keep_typical(mass: float) -> Filter:
    """Keeps the tokens whose surprise is nearest to the expected one, until they hold `mass`.

    The most likely token stays in any case, unlike in the paper (Locally Typical Sampling, section 4).
    """

    def apply(candidates: Candidates) -> Candidates:
        ids, logits = candidates
        relative = weights(logits).astype(np.float64)
        p = relative / relative.sum()
        surprise = -np.log(np.maximum(p, np.finfo(np.float64).tiny))
        order = np.argsort(np.abs(surprise - float(p @ surprise)), kind="stable")
        count = int(np.searchsorted(np.cumsum(p[order]), mass)) + 1
        kept = np.union1d(order[:count], [int(np.argmax(logits))])
        return ids[kept], logits[kept]

    return apply


def weights(logits: Float) -> Float:
    """Probabilities relative to the most likely token's, which every filter keeps."""
    return np.asarray(np.exp(logits - logits.max()))
