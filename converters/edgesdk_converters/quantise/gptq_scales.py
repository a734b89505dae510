"""Factors between neighbouring layers under which GPTQ loses least, where nothing rounds what is read.

GPTQ in integers of one scale per row loses of row o, on the average,

    step_o^2 / 12 * sum_j d_j,    step_o = max_j |w_oj| / 127,

where d are the pivots of the inputs' Gram matrix: what is left of each channel once the channels after it
have made good what they can (the diagonal of its Cholesky factor; arXiv 2210.17323, section 3.3).
Factors s turn that into max_j (|w_oj| s_j)^2 * sum_j d_j / s_j^2, summed over rows. At its least a channel
has the same share in the largest weights of rows as in the noise, and multiplying each factor by a power of
the ratio of its two shares goes there. The maximum is a soft one meanwhile.

It knows matrices and groups of channels: no graph, no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.evaluate import Array
from edgesdk_converters.quantise.gram_factor import DAMPING, damped, largest_first, lower_factor

_SHARPNESS = (16,) * 30 + (32,) * 30
"""Exponent of the soft maximum in each round. SmolLM2-135M: the loss of one `down` is 0.64 of what it was
after 30 rounds and 0.62 after 60; 120 more bring 0.01."""

_ROWS = 1024
"""Of each matrix, that the maximum is looked for in."""

_LIMIT = 1e3
_WORTH = 0.99
"""Of the loss without factors: what gains less is no gain, and ones stay ones."""


def scales_for_gptq(
    weights: Sequence[Array], gram: NDArray[np.floating], groups: NDArray[np.intp]
) -> Array | None:
    """Chooses factors for one input that some matrices share.

    Args:
        weights: (O, I) float32 each; they will be stored with one scale per row.
        gram: (I, I), sum over tokens of x x'; any scale.
        groups: (I,) numbers from 0; channels with the same one have the same factor.

    Returns:
        (I,) positive factors, with a geometric mean of 1; None where none are better than ones.

    Raises:
        TransformError: the Gram matrix has another size, or numbers that are not finite.
    """
    noise = pivots(weights[0], gram)
    rows = [np.abs(w[np.linspace(0, len(w) - 1, min(len(w), _ROWS)).astype(np.int64)]) for w in weights]
    sizes = np.concatenate(rows)
    sizes = sizes[sizes.any(axis=1)]
    if not len(sizes):
        return None
    # Each row over its largest: a good start, and rows count as much as their own steps do.
    typical = np.sqrt(np.mean(np.square(sizes / sizes.max(axis=1, keepdims=True)), axis=0)) + 1e-6
    factor = _same(noise**0.1 / typical**0.8, groups)
    best, least = None, _WORTH * _loss(sizes, noise, np.ones_like(noise))
    for sharpness in _SHARPNESS:
        wide = sizes * factor
        largest = wide.max(axis=1, keepdims=True)
        share = (wide / largest) ** sharpness
        share *= np.square(largest) / share.sum(axis=1, keepdims=True)
        ratio = _shares(noise / np.square(factor), groups) / (_shares(share.sum(axis=0), groups) + 1e-12)
        factor = factor * np.clip(ratio, 0.1, 10) ** (1.2 / sharpness)
        loss = _loss(sizes, noise, factor)
        if loss < least:
            best, least = factor, loss
    if best is None:
        return None
    found: Array = np.clip(best / np.exp(np.log(best).mean()), 1 / _LIMIT, _LIMIT).astype(np.float32)
    return found


def pivots(weight: Array, gram: NDArray[np.floating]) -> NDArray[np.float64]:
    """What GPTQ leaves of each channel, in the order in which it takes them: (I,) positive.

    Args:
        weight: (O, I), whose columns the Gram matrix is to fit.
        gram: (I, I).

    Raises:
        TransformError: it does not fit, or has numbers that are not finite.
    """
    order = largest_first(gram)
    found = np.empty(len(order))
    found[order] = np.diag(lower_factor(damped(weight, gram, DAMPING, order))).astype(np.float64) ** 2
    return found


def _same(factor: NDArray[np.float64], groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """The geometric mean of each group."""
    mean: NDArray[np.float64] = np.exp(
        np.bincount(groups, np.log(factor))[groups] / np.bincount(groups)[groups]
    )
    return mean


def _shares(part: NDArray[np.floating], groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """The share of each channel's group in the sum."""
    share: NDArray[np.float64] = np.bincount(groups, part)[groups] / part.sum(dtype=np.float64)
    return share


def _loss(sizes: Array, noise: NDArray[np.float64], factor: NDArray[np.float64]) -> float:
    steps = np.square((sizes * factor).max(axis=1)).sum(dtype=np.float64)
    return float(steps * (noise / np.square(factor)).sum())
