"""Sixteen numbers for every few rows of a matrix, and for each weight which of them it becomes.

k-means in one dimension, where clusters are ranges of the sorted numbers and the sums over any range are
two look-ups: dynamic programming over a coarse grid finds where to start (Wang and Song, "Ckmeans.1d.dp",
The R Journal 3/2, 2011), Lloyd's iterations do the rest. It is what Core ML's tools call palettization
per grouped channel (Apple, Guide to Core ML Tools, "Palettization Overview", "Performance").

With the Gram matrix of a layer's inputs the numbers are weighted by how large the channel is that they
multiply (SqueezeLLM, arXiv 2306.07629, section 4.1, has Fisher information in that place), and indices
are chosen as GPTQ chooses integers: what a column loses is made good by those to its right.

It knows matrices only; everything is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantise.all_cores import products_on_one_core
from edgesdk_converters.quantise.gram_factor import (
    DAMPING,
    damped,
    factor_losses,
    lower_factor,
    mean_diagonal,
    within,
)
from edgesdk_converters.quantise.palette_tensor import PALETTE_SIZE, PaletteTensor
from edgesdk_converters.quantise.recipe import Scheme

Array = NDArray[np.float32]

_ITERATIONS = 12  # from where they start, the rest changes the error by less than 0.1 %
_GRID = 128
_SPAN = 64  # columns whose errors are carried on together


@dataclass(frozen=True)
class Palettised:
    """What was made of a matrix for the inputs that reach it.

    Attributes:
        tensor: indices and palettes.
        whole: the loss of zeros in place of the matrix, summed over rows, in units of the damped Gram matrix.
        rounding_loss: of `palettise` without those inputs.
        loss: of `tensor`; never above `rounding_loss`.
    """

    tensor: PaletteTensor
    whole: float
    rounding_loss: float
    loss: float


def palettise(weight: Array, scheme: Scheme, importance: Array | None = None) -> PaletteTensor:
    """Gives every number of a matrix its nearest in a palette for its rows.

    Args:
        weight: (O, I) float32.
        scheme: says how many rows share a palette; where that does not divide O, their greatest common
            divisor does.
        importance: (I,) at least 0, what an error in a column costs; None for all alike.
    """
    palettes = _palettes(weight, scheme, importance)
    grouped = weight.reshape(len(palettes), -1)
    indices = np.empty(grouped.shape, np.uint8)
    for at, palette in enumerate(palettes):
        indices[at] = np.searchsorted(_middles(palette), grouped[at])
    return PaletteTensor(indices.reshape(weight.shape), palettes)


def palettise_for(weight: Array, gram: NDArray[np.floating], scheme: Scheme) -> Palettised:
    """Chooses palettes and indices for what a layer computes.

    Args:
        weight: (O, I) float32.
        gram: (I, I), sum over tokens of x x'; any scale.
        scheme: as for `palettise`.

    Returns:
        The tensor; rows that would lose more than by `palettise` have what that gives.

    Raises:
        TransformError: the Gram matrix has another size, or numbers that are not finite.
    """
    hessian = damped(weight, gram, DAMPING)
    lower = lower_factor(hessian)
    plain = palettise(weight, scheme)
    plain_losses = factor_losses(plain.dequantise() - weight, lower)
    with products_on_one_core():
        found = _carry_errors(weight, lower, _palettes(weight, scheme, np.diag(hessian)))
    losses = factor_losses(found.dequantise() - weight, lower)
    # Rows that share a palette change together.
    each = found.rows_per_palette
    worse = losses.reshape(-1, each).sum(axis=1) > plain_losses.reshape(-1, each).sum(axis=1)
    found.palettes[worse] = plain.palettes[worse]
    rows = np.repeat(worse, each)
    found.indices[rows] = plain.indices[rows]
    losses[rows] = plain_losses[rows]
    unit = mean_diagonal(gram)
    whole = factor_losses(weight, lower)
    sums = (unit * float(each.sum()) for each in (whole, plain_losses, losses))
    return Palettised(found, *sums)


def _palettes(weight: Array, scheme: Scheme, importance: Array | None) -> Array:
    """(P, 16) float32, ascending, float16 numbers."""
    rows, columns = weight.shape
    each = gcd(rows, scheme.rows or rows)
    shares = np.ones(columns) if importance is None else np.asarray(importance, np.float64)
    weights = np.tile(shares, each)
    palettes = np.empty((rows // each, PALETTE_SIZE), np.float32)
    for at, group in enumerate(weight.reshape(len(palettes), -1)):
        order = np.argsort(group, kind="stable")
        palettes[at] = _kmeans(group[order].astype(np.float64), weights[order])
    return palettes


def _kmeans(numbers: NDArray[np.float64], weights: NDArray[np.float64]) -> Array:
    """The best sixteen clusters whose ends lie on a coarse grid, then Lloyd's iterations.

    Args:
        numbers: (n,) ascending.
        weights: (n,) at least 0.
    """
    mass = np.concatenate([[0.0], np.cumsum(weights)])
    moment = np.concatenate([[0.0], np.cumsum(weights * numbers)])
    edges = _best_edges(mass, moment, _grid(numbers))
    centres = numbers[edges[:-1].clip(max=len(numbers) - 1)]
    for _ in range(_ITERATIONS):
        inside = mass[edges[1:]] - mass[edges[:-1]]
        sums = moment[edges[1:]] - moment[edges[:-1]]
        # An empty cluster stays where it is; it may catch something later.
        centres = np.where(inside > 0, sums / np.where(inside > 0, inside, 1), centres)
        moved = np.concatenate([[0], np.searchsorted(numbers, _middles(centres)), [len(numbers)]])
        if np.array_equal(moved, edges):
            break
        edges = moved
    return np.sort(centres.astype(np.float16).astype(np.float32))


def _grid(numbers: NDArray[np.float64]) -> NDArray[np.intp]:
    """Ascending places between sorted numbers, from 0 to n: half of them by rank, half by value."""
    by_rank = np.linspace(0, len(numbers), _GRID // 2).astype(np.intp)
    by_value = np.searchsorted(numbers, np.linspace(numbers[0], numbers[-1], _GRID // 2))
    return np.unique(np.concatenate([by_rank, by_value]))


def _best_edges(
    mass: NDArray[np.float64], moment: NDArray[np.float64], places: NDArray[np.intp]
) -> NDArray[np.intp]:
    """The 17 ends, among `places`, of the sixteen clusters of least squared error (dynamic programming)."""
    inside = mass[places][None, :] - mass[places][:, None]
    sums = moment[places][None, :] - moment[places][:, None]
    # What a cluster from one place to another takes off the squared error; an empty one takes nothing.
    gain = np.where(inside > 0, sums**2 / np.where(inside > 0, inside, 1), 0.0)
    gain[np.tril_indices(len(places), -1)] = -np.inf
    best, before = gain[0], []
    for _ in range(PALETTE_SIZE - 1):
        total = best[:, None] + gain
        before.append(total.argmax(axis=0))
        best = total[before[-1], np.arange(len(places))]
    ends = [len(places) - 1]
    for previous in reversed(before):
        ends.append(int(previous[ends[-1]]))
    return places[[0, *reversed(ends)]]


def _middles(centres: NDArray[np.floating]) -> NDArray[np.floating]:
    """Where the nearest of ascending numbers changes: one less than there are numbers."""
    middles: NDArray[np.floating] = (centres[1:] + centres[:-1]) / 2
    return middles


def _carry_errors(weight: Array, lower: Array, palettes: Array) -> PaletteTensor:
    """GPTQ from left to right (arXiv 2210.17323, section 3), on palettes in place of a grid."""
    each = len(weight) // len(palettes)
    lost = np.empty_like(weight)
    indices = np.empty(weight.shape, np.uint8)
    edges = np.repeat(((palettes[:, 1:] + palettes[:, :-1]) / 2), each, axis=0)
    numbers = np.repeat(palettes, each, axis=0)
    rows = np.arange(len(weight))
    for start in range(0, weight.shape[1], _SPAN):
        span = slice(start, min(start + _SPAN, weight.shape[1]))
        own = within(lower[span, span])
        moved = (lost[:, :start] @ lower[span, :start].T) @ own
        errors = np.empty((span.stop - start, len(weight)), np.float32)
        for j in range(span.stop - start):
            at = start + j
            wanted = weight[:, at] - moved[:, j] - errors[:j].T @ own[:j, j]
            found = (wanted[:, None] > edges).sum(axis=1)
            indices[:, at] = found
            errors[j] = (wanted - numbers[rows, found]) / own[j, j]
            lost[:, at] = numbers[rows, found] - weight[:, at]
    return PaletteTensor(indices, palettes)
