"""The Gram matrix of a layer's inputs, damped, and its triangular factor: what GPTQ and its kin compute with.

With H = L' L, L lower, the loss of an error D is ||D L'||^2, and column j of D L' depends on the columns of
D up to j alone. That is all of GPTQ: what the columns before have lost is taken off the next ones, by a
product with a few rows of L. No inverse of H is needed, whose factor GPTQ (arXiv 2210.17323, section 3.3)
takes; that the two are the same is shown in QuIP (arXiv 2307.13304).

It knows matrices only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.quantise.all_cores import on_all_cores, products_on_one_core

Array: TypeAlias = NDArray[np.float32]
Order: TypeAlias = NDArray[np.intp] | slice

DAMPING = 0.01  # of the mean of H's diagonal, as in the reference implementation
_PANEL = 512  # rows of a factor that are made together
_LEAST_DAMPING = 1e-6


def gram_matrix(inputs: Sequence[Array]) -> Array:
    """The sum over tokens of x x': (I, I) float32.

    Args:
        inputs: (T, I) float32 each.
    """
    # One product of all: of each alone it would be as large, and would have to be added.
    x = inputs[0] if len(inputs) == 1 else np.concatenate(inputs)
    gram = np.empty((x.shape[1], x.shape[1]), np.float32)

    def multiply(rows: slice) -> None:
        gram[rows, : rows.stop] = x[:, rows].T @ x[:, : rows.stop]
        gram[: rows.start, rows] = gram[rows, : rows.start].T

    on_all_cores(multiply, _panels(x.shape[1]))
    return gram


def damped(weight: Array, gram: NDArray[np.floating], damping: float, order: Order = slice(None)) -> Array:
    """The Gram matrix over its mean diagonal, with so much added to the diagonal: (I, I) float32.

    Args:
        weight: (O, I), whose columns it must fit.
        gram: (I, I), sum over tokens of x x'; any scale.
        damping: what is added.
        order: in which rows and columns are wanted.

    Raises:
        TransformError: it does not fit the weight, or has numbers that are not finite.
    """
    columns = weight.shape[1]
    if gram.shape != (columns, columns) or not np.isfinite(gram).all():
        raise TransformError(f"a finite Gram matrix of {columns} x {columns} is needed, got {gram.shape}")
    hessian, mean = np.empty((columns, columns), np.float32), mean_diagonal(gram)
    places = np.arange(columns)[order]
    # A few rows at a time: in float64 and whole, that of 8,192 channels takes half a gigabyte.
    for rows in _panels(columns):
        part = gram[places[rows]][:, order].astype(np.float64) / mean
        # A column that no input reached has no say; its own weight is rounded as if it had a little.
        part[np.arange(len(part)), np.arange(columns)[rows]] += max(damping, _LEAST_DAMPING)
        hessian[rows] = part
    return hessian


def mean_diagonal(gram: NDArray[np.floating]) -> float:
    """What `damped` divides by."""
    return max(float(np.mean(np.diag(gram), dtype=np.float64)), 1e-30)


def largest_first(gram: NDArray[np.floating]) -> NDArray[np.intp]:
    """Channels in the order of what they carry, most first (the reference implementation's act-order)."""
    return np.argsort(-np.diag(gram), kind="stable")


def lower_factor(hessian: Array) -> Array:
    """Lower L with L' L = H: (I, I) float32, made in float64 because H may be close to singular.

    By panels of rows from the last to the first, of which only what is not zero is kept in float64: half of
    what a whole matrix would take.
    """
    columns = len(hessian)
    found = np.zeros(hessian.shape, np.float32)  # whose pages come when they are written
    below: list[NDArray[np.float64]] = []
    for rows in reversed(_panels(columns)):
        start = rows.start
        panel = hessian[rows, : rows.stop].astype(np.float64)

        def take_off(part: slice, rows: slice = rows, panel: NDArray[np.float64] = panel) -> None:
            for other in below:
                panel[:, part] -= other[:, rows].T @ other[:, part]

        on_all_cores(take_off, _panels(rows.stop))
        # With P the reversal, P H P = C C' gives H = (P C P)(P C P)' with P C P upper.
        with products_on_one_core():
            upper = np.linalg.cholesky(panel[::-1, start:][:, ::-1])[::-1, ::-1]
        panel[:, rows] = upper.T

        def solve(
            part: slice, upper: NDArray[np.floating] = upper, panel: NDArray[np.float64] = panel
        ) -> None:
            panel[:, part] = np.linalg.solve(upper, panel[:, part])

        on_all_cores(solve, _panels(start))
        found[rows, : rows.stop] = panel
        below.append(panel)
    return found


def _panels(columns: int) -> list[slice]:
    return [slice(start, min(start + _PANEL, columns)) for start in range(0, columns, _PANEL)]


def within(lower: Array) -> Array:
    """Upper U with U' U = H^-1, from the factor of H: what GPTQ takes within a few columns."""
    return np.linalg.inv(lower.T.astype(np.float64)).astype(np.float32)


def row_losses(error: Array, hessian: Array) -> NDArray[np.float64]:
    """e H e' for each row e of `error` (O, I): (O,) float64."""
    losses: NDArray[np.float64] = ((error @ hessian) * error).sum(axis=1, dtype=np.float64)
    return losses


def factor_losses(error: Array, lower: Array) -> NDArray[np.float64]:
    """The same from the factor of H, in half of the time."""
    losses = np.zeros(len(error))
    for rows in _panels(len(lower)):
        part = error[:, : rows.stop] @ lower[rows, : rows.stop].T
        losses += np.einsum("oi,oi->o", part, part)
    return losses
