"""GPTQ: integers chosen for what a layer computes, not for how its weight looks.

Minimises tr((Q - W) H (Q - W)') over integers and scales, where H is the Gram matrix of the layer's
inputs. First GPTQ (arXiv 2210.17323, sections 3 and 4): columns are quantised from left to right, and
what each loses is made good by those to its right, for whole spans by matrix products with a factor of H
(`gram_factor`). A block's scale is the one of several under which the block itself loses least, after the
columns to its left have been paid for. Then block coordinate descent: each span is quantised again,
given all others on both sides, and changes only where that lowers the loss (the greedy passes of
QuIP, arXiv 2307.13304, section 4.2, over blocks and scales instead of single weights).

It knows matrices only: no graph, no tokens. Plain rounding with searched clipping is one of the
candidates for every row, so that no row ends with a larger loss than rounding's.

Rows are independent of each other; parts of them are worked on by all cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantise.all_cores import on_all_cores, products_on_one_core
from edgesdk_converters.quantise.gram_factor import (
    DAMPING,
    damped,
    factor_losses,
    largest_first,
    lower_factor,
    mean_diagonal,
    row_losses,
    within,
)
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import integer_range, round_to_nearest, storable_scale

Array = NDArray[np.float32]
Losses = NDArray[np.float64]

SWEEPS = 2
# Of the widest scale, in the first pass. At 7/8 the largest number becomes -8, not 7.
_SHARES = (1.0, 0.95, 0.9, 0.875, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
_STEPS = (1.0, 0.94, 0.97, 1.03, 1.06)  # of the present scale, in later passes
_SPAN = 64  # columns handled together where a row has one scale
_GROUP = 512  # columns whose products with all others are made together
_ROWS_AT_ONCE = 1024  # the fifty thousand of a table at once would take gigabytes


@dataclass(frozen=True)
class Quantised:
    """What GPTQ made of a matrix.

    Attributes:
        tensor: integers and scales.
        whole: the loss of zeros in place of the matrix, summed over rows, in units of the Gram matrix, which
            is damped for it as for the others.
        rounding_loss: of rounding with searched clipping.
        loss: of `tensor`; never above `rounding_loss`.
    """

    tensor: QuantisedTensor
    whole: float
    rounding_loss: float
    loss: float


def gptq(
    weight: Array, gram: NDArray[np.floating], scheme: Scheme, damping: float = DAMPING, sweeps: int = SWEEPS
) -> Quantised:
    """Quantises a matrix for given inputs.

    Args:
        weight: (O, I) float32, what the integers should stand for.
        gram: (I, I), sum over tokens of x x'; any scale.
        scheme: bits and block; a block must divide I.
        damping: share of the mean diagonal added to the diagonal.
        sweeps: passes of block coordinate descent.

    Raises:
        TransformError: the Gram matrix has another size, or numbers that are not finite.
    """
    # Where a scale holds for all columns they may come in any order: what those that carry most lose is made
    # good by the others.
    order = largest_first(gram) if scheme.block is None else slice(None)
    hessian = damped(weight, gram, damping, order)
    lower = lower_factor(hessian)
    with products_on_one_core():
        plan = _Plan(scheme, hessian, lower, _spans(hessian, lower, scheme))
    values = np.empty(weight.shape, np.int8)

    def some(rows: slice) -> tuple[Array, Losses]:
        found, scales, losses = _rows(np.ascontiguousarray(weight[rows][:, order]), plan, sweeps)
        values[rows, order] = found
        return scales, losses

    scales, losses = zip(*on_all_cores(some, _spread(len(weight), _ROWS_AT_ONCE)), strict=True)
    whole, rounding_loss, loss = (mean_diagonal(gram) * np.sum(losses, axis=0)).tolist()
    tensor = QuantisedTensor(values, np.concatenate(scales), scheme.bits, scheme.block)
    return Quantised(tensor, whole, rounding_loss, loss)


def _spread(rows: int, most: int) -> list[slice]:
    """So many rows in parts of nearly the same size, whatever the number of cores."""
    ends = np.linspace(0, rows, -(-rows // most) + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(ends)]


@dataclass(frozen=True)
class _Span:
    """Columns that are handled together.

    Attributes:
        columns: which.
        group: the columns of its group.
        scale: place of their scale among those of a row.
        first: (n, n) upper, `within` the factor, for the first pass.
        own: (n, n), their part of the Hessian.
        inverse: (n, n) float64, of `own`.
        again: (n, n) upper, `within` the factor of `own`, for sweeps.
    """

    columns: slice
    group: slice
    scale: int
    first: Array
    own: Array
    inverse: NDArray[np.float64]
    again: Array


@dataclass(frozen=True)
class _Plan:
    """What all rows share: the Hessian, its factor, and spans in the order of their columns."""

    scheme: Scheme
    hessian: Array
    lower: Array
    spans: list[_Span]

    @property
    def scales(self) -> int:
        """Scales of a row."""
        return self.spans[-1].scale + 1


def _spans(hessian: Array, lower: Array, scheme: Scheme) -> list[_Span]:
    columns, width = len(hessian), scheme.block or _SPAN
    found = []
    for start in range(0, columns, width):
        at = slice(start, min(start + width, columns))
        first = start - start % _GROUP
        group = slice(first, min(first + _GROUP, columns))
        own = np.ascontiguousarray(hessian[at, at])
        inverse, again = np.linalg.inv(own.astype(np.float64)), within(lower_factor(own))
        scale = start // width if scheme.block else 0
        found.append(_Span(at, group, scale, within(lower[at, at]), own, inverse, again))
    return found


def _rows(weight: Array, plan: _Plan, sweeps: int) -> tuple[NDArray[np.int8], Array, Losses]:
    """Some rows: (O, I) integers, (O, S) scales, and the three sums of losses in units of the Hessian."""
    scheme = plan.scheme
    rounded = round_to_nearest(weight, Scheme(scheme.bits, scheme.block, "clip_search"))
    rounding_losses = factor_losses(rounded.dequantise() - weight, plan.lower)
    if scheme.block is None:
        values, scales, losses = _whole_rows(weight, plan)
    else:
        values, scales, losses = _first_pass(weight, plan, None)
    for _ in range(sweeps):
        losses += _sweep(weight, plan, values, scales)
    worse = losses > rounding_losses
    values[worse], scales[worse] = rounded.values[worse], rounded.scales[worse]
    whole, kept = factor_losses(weight, plan.lower), np.minimum(losses, rounding_losses)
    return values, scales, np.array([each.sum() for each in (whole, rounding_losses, kept)])


def _whole_rows(weight: Array, plan: _Plan) -> tuple[NDArray[np.int8], Array, Losses]:
    """One scale per row: the whole pass is made for each candidate, and each row keeps its best."""
    scheme, widest = plan.scheme, _widest(weight, plan.scheme)
    shares = _SHARES if scheme.bits == 4 else _SHARES[:1]
    best = np.full(len(weight), np.inf)
    values, scales = np.empty(weight.shape, np.int8), np.empty((len(weight), 1), np.float32)
    for share in shares:
        scale = storable_scale(widest * np.float32(share), scheme)
        found, _, losses = _first_pass(weight, plan, scale)
        better = losses < best
        best[better] = losses[better]
        values[better], scales[better, 0] = found[better], scale[better]
    return values, scales, best


def _first_pass(weight: Array, plan: _Plan, scale: Array | None) -> tuple[NDArray[np.int8], Array, Losses]:
    """GPTQ from left to right; `scale` (O,) is given, or searched per block."""
    scheme, lower, lost = plan.scheme, plan.lower, np.empty_like(weight)
    values = np.empty(weight.shape, np.int8)
    scales = np.empty((len(weight), plan.scales), np.float32)
    losses = np.zeros(len(weight))
    for span in plan.spans:
        at, first = span.columns, span.group.start
        if at.start == first:
            asked = lost[:, :first] @ lower[span.group, :first].T
        inner = slice(first, at.start)
        moved = asked[:, at.start - first : at.stop - first] + lost[:, inner] @ lower[at, inner].T
        part = weight[:, at] - np.matmul(moved, span.first)
        if scale is None:
            widest = _widest(part, scheme)
            candidates = np.stack([storable_scale(widest * np.float32(s), scheme) for s in _SHARES])
        else:
            candidates = scale[None]
        chosen, scales[:, span.scale], least = _quantise_span(part, span.first, candidates, scheme.bits)
        values[:, at] = chosen
        lost[:, at] = chosen * scales[:, span.scale, None] - weight[:, at]
        losses += least
    return values, scales, losses


def _sweep(weight: Array, plan: _Plan, values: NDArray[np.int8], scales: Array) -> Losses:
    """Quantises each span again, given all others; a row changes, in place, only where its loss falls.

    Returns:
        (O,) by how much losses have changed: at most 0.
    """
    scheme, hessian = plan.scheme, plan.hessian
    now = QuantisedTensor(values, scales, scheme.bits, scheme.block).dequantise()
    lost = now - weight
    gained = np.zeros(len(weight))
    for span in plan.spans:
        at, own, present = span.columns, span.own, now[:, span.columns]
        first = span.group.start
        if at.start == first:
            pulls = lost @ hessian[span.group].T  # half the gradient
            changes = np.zeros_like(pulls)
        local, inner = slice(at.start - first, at.stop - first), slice(0, at.start - first)
        pull = pulls[:, local] + changes[:, inner] @ hessian[at, first : at.start].T
        # The best real numbers here, all other spans as they are.
        step = (pull.astype(np.float64) @ span.inverse).astype(np.float32)
        factors = _STEPS if scheme.block else (1.0,)
        old = scales[:, span.scale]
        candidates = np.stack([storable_scale(old * np.float32(f), scheme) for f in factors])
        chosen, scale, _ = _quantise_span(present - step, span.again, candidates, scheme.bits)
        change = chosen * scale[:, None] - present
        before, after = row_losses(step, own), row_losses(change + step, own)
        better = after < before
        change[~better] = 0
        values[better, at], scales[better, span.scale] = chosen[better], scale[better]
        lost[:, at] += change
        changes[:, local] = change
        gained[better] += (after - before)[better]
    return gained


def _widest(part: Array, scheme: Scheme) -> Array:
    return np.asarray(np.abs(part).max(axis=1) / np.float32(integer_range(scheme.bits)[1]), np.float32)


def _quantise_span(
    part: Array, factor: Array, candidates: Array, bits: int
) -> tuple[NDArray[np.int8], Array, Losses]:
    """GPTQ within a few columns, under several scales at once.

    Args:
        part: (O, n) numbers wanted.
        factor: (n, n) upper, from `within`.
        candidates: (C, O) scales.
        bits: 8 or 4.

    Returns:
        (O, n) integers, (O,) scale, and (O,) loss, of the best candidate per row.
    """
    low, top = integer_range(bits)
    count, rows = candidates.shape
    width = part.shape[1]
    # Columns first: each is one contiguous run over candidates and rows.
    wanted = np.tile(part.T, (1, count))
    scale = candidates.reshape(-1)
    inverse = 1 / scale
    integers = np.empty((width, count * rows), np.float32)
    errors = np.empty((width, count * rows), np.float32)
    for j in range(width):
        rest, integer, error = wanted[j], integers[j], errors[j]
        rest -= factor[:j, j] @ errors[:j]
        np.rint(np.multiply(rest, inverse, out=integer), out=integer)
        np.minimum(np.maximum(integer, low, out=integer), top, out=integer)
        np.subtract(rest, np.multiply(integer, scale, out=error), out=error)
        error /= factor[j, j]
    losses = np.einsum("nc,nc->c", errors, errors).reshape(count, rows)
    pick = losses.argmin(axis=0) * rows + np.arange(rows)
    least = losses.reshape(-1)[pick].astype(np.float64)
    return np.ascontiguousarray(integers[:, pick].T).astype(np.int8), scale[pick], least
