"""GPTQ: integers chosen for what a layer computes, not for how its weight looks.

Minimises tr((Q - W) H (Q - W)') over integers and scales, where H is the Gram matrix of the layer's
inputs. First GPTQ (arXiv 2210.17323, sections 3 and 4): columns are quantised from left to right, and
what each loses is made good by those to its right, with lazy updates of whole blocks as matrix
products. A block's scale is the one of several under which the block itself loses least, after the
columns to its left have been paid for. Then block coordinate descent: each block is quantised again,
given all others on both sides, and changes only where that lowers the loss (the greedy passes of
QuIP, arXiv 2307.13304, section 4.2, over blocks and scales instead of single weights).

It knows matrices only: no graph, no tokens. Plain rounding with searched clipping is one of the
candidates for every row, so that no row ends with a larger loss than rounding's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import integer_range, round_to_nearest, storable_scale

Array = NDArray[np.float32]

DAMPING = 0.01  # of the mean of H's diagonal, as in the reference implementation
SWEEPS = 2
# Of the widest scale, in the first pass. At 7/8 the largest number becomes -8, not 7.
_SHARES = (1.0, 0.95, 0.9, 0.875, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
_STEPS = (1.0, 0.94, 0.97, 1.03, 1.06)  # of the present scale, in later passes
_SPAN = 64  # columns handled together where a row has one scale
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Quantised:
    """What GPTQ made of a matrix.

    Attributes:
        tensor: integers and scales.
        rounding_loss: of rounding with searched clipping, summed over rows, in units of the Gram matrix.
        loss: of `tensor`; never above `rounding_loss`.
    """

    tensor: QuantisedTensor
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
    hessian = damped(weight, gram, damping)
    # Where a scale holds for all columns they may come in any order: what those that carry most lose is made
    # good by the others (the reference implementation calls it act-order).
    order = np.argsort(-np.diag(hessian), kind="stable") if scheme.block is None else slice(None)
    hessian = np.ascontiguousarray(hessian[order][:, order])
    factor = inverse_factor(hessian)
    values = np.empty(weight.shape, np.int8)
    scales, rounding_loss, loss = [], 0.0, 0.0
    # Rows are independent of each other, and the fifty thousand of a table at once would take a gigabyte.
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        part = _rows(np.ascontiguousarray(weight[rows][:, order]), hessian, factor, scheme, sweeps)
        values[rows, order] = part.tensor.values
        scales.append(part.tensor.scales)
        rounding_loss, loss = rounding_loss + part.rounding_loss, loss + part.loss
    unit = mean_diagonal(gram)
    tensor = QuantisedTensor(values, np.concatenate(scales), scheme.bits, scheme.block)
    return Quantised(tensor, unit * rounding_loss, unit * loss)


def _rows(weight: Array, hessian: Array, factor: Array, scheme: Scheme, sweeps: int) -> Quantised:
    """Some rows of a matrix, with losses in units of the Hessian."""
    rounded = round_to_nearest(weight, Scheme(scheme.bits, scheme.block, "clip_search"))
    rounding_losses = row_losses(rounded.dequantise() - weight, hessian)
    layout = _Layout(weight.shape[1], scheme)
    if scheme.block is None:
        values, scales = _whole_rows(weight, hessian, factor, scheme, layout)
    else:
        values, scales = _first_pass(weight, factor, scheme, layout, None)
    for _ in range(sweeps):
        values, scales = _sweep(weight, hessian, values, scales, scheme, layout)
    tensor = QuantisedTensor(values, scales, scheme.bits, scheme.block)
    losses = row_losses(tensor.dequantise() - weight, hessian)
    worse = losses > rounding_losses
    values[worse], scales[worse] = rounded.values[worse], rounded.scales[worse]
    kept = np.minimum(losses, rounding_losses)
    return Quantised(tensor, float(rounding_losses.sum()), float(kept.sum()))


def row_losses(error: Array, hessian: Array) -> NDArray[np.float64]:
    """e H e' for each row e of `error` (O, I): (O,) float64."""
    losses: NDArray[np.float64] = ((error @ hessian) * error).sum(axis=1, dtype=np.float64)
    return losses


class _Layout:
    """Which columns are handled together, and which of them share a scale."""

    def __init__(self, columns: int, scheme: Scheme) -> None:
        width = scheme.block or min(_SPAN, columns)
        self.spans = [slice(at, min(at + width, columns)) for at in range(0, columns, width)]
        self.scale_of = [i if scheme.block else 0 for i in range(len(self.spans))]
        self.scales = len(self.spans) if scheme.block else 1


def damped(weight: Array, gram: NDArray[np.floating], damping: float) -> Array:
    """The Gram matrix over its mean diagonal, with so much added to the diagonal: (I, I) float32.

    Raises:
        TransformError: it does not fit the weight, or has numbers that are not finite.
    """
    columns = weight.shape[1]
    if gram.shape != (columns, columns) or not np.isfinite(gram).all():
        raise TransformError(f"a finite Gram matrix of {columns} x {columns} is needed, got {gram.shape}")
    hessian = np.asarray(gram, np.float64) / mean_diagonal(gram)
    # A column that no input reached has no say; its own weight is rounded as if it had a little.
    hessian[np.diag_indices_from(hessian)] += max(damping, 1e-6)
    return hessian.astype(np.float32)


def mean_diagonal(gram: NDArray[np.floating]) -> float:
    """What `damped` divides by."""
    return max(float(np.mean(np.diag(gram), dtype=np.float64)), 1e-30)


def inverse_factor(hessian: Array) -> Array:
    """Upper U with U'U = H^-1, in float64 because H may be close to singular."""
    # With P the reversal, P H P = L L' gives H = (P L P)(P L P)' with P L P upper; its inverse is U.
    reverse = hessian[::-1, ::-1].astype(np.float64)
    upper = np.linalg.cholesky(reverse)[::-1, ::-1]
    return np.linalg.inv(upper).astype(np.float32)


def _whole_rows(
    weight: Array, hessian: Array, factor: Array, scheme: Scheme, layout: _Layout
) -> tuple[NDArray[np.int8], Array]:
    """One scale per row: the whole pass is made for each candidate, and each row keeps its best."""
    widest = _widest(weight, scheme)
    shares = _SHARES if scheme.bits == 4 else _SHARES[:1]
    best = np.full(len(weight), np.inf)
    values, scales = np.empty(weight.shape, np.int8), np.empty((len(weight), 1), np.float32)
    for share in shares:
        scale = storable_scale(widest * np.float32(share), scheme)
        found, _ = _first_pass(weight, factor, scheme, layout, scale)
        losses = row_losses(found * scale[:, None] - weight, hessian)
        better = losses < best
        best[better] = losses[better]
        values[better], scales[better, 0] = found[better], scale[better]
    return values, scales


def _first_pass(
    weight: Array, factor: Array, scheme: Scheme, layout: _Layout, scale: Array | None
) -> tuple[NDArray[np.int8], Array]:
    """GPTQ from left to right; `scale` (O,) is given, or searched per block."""
    rest = weight.astype(np.float32, copy=True)
    values = np.empty(weight.shape, np.int8)
    scales = np.empty((len(weight), layout.scales), np.float32)
    for span, at in zip(layout.spans, layout.scale_of, strict=True):
        part = rest[:, span]
        if scale is None:
            widest = _widest(part, scheme)
            candidates = np.stack([storable_scale(widest * np.float32(s), scheme) for s in _SHARES])
        else:
            candidates = scale[None]
        chosen, scales[:, at], errors = _quantise_span(part, factor[span, span], candidates, scheme.bits)
        values[:, span] = chosen
        rest[:, span.stop :] -= errors @ factor[span, span.stop :]
    return values, scales


def _sweep(
    weight: Array,
    hessian: Array,
    values: NDArray[np.int8],
    scales: Array,
    scheme: Scheme,
    layout: _Layout,
) -> tuple[NDArray[np.int8], Array]:
    """Quantises each block again, given all others; a row changes only where its loss falls."""
    values, scales = values.copy(), scales.copy()
    now = QuantisedTensor(values, scales, scheme.bits, scheme.block).dequantise()
    pull = (now - weight) @ hessian  # half the gradient
    for span, at in zip(layout.spans, layout.scale_of, strict=True):
        own = hessian[span, span]
        present = now[:, span]
        # The best real numbers here, all other blocks as they are.
        step = np.linalg.solve(own.astype(np.float64), pull[:, span].T.astype(np.float64)).T
        wanted = present - step.astype(np.float32)
        factors = _STEPS if scheme.block else (1.0,)
        candidates = np.stack([storable_scale(scales[:, at] * np.float32(f), scheme) for f in factors])
        chosen, scale, _ = _quantise_span(wanted, inverse_factor(own), candidates, scheme.bits)
        change = chosen * scale[:, None] - present
        better = row_losses(change + (present - wanted), own) < row_losses(present - wanted, own)
        change[~better] = 0
        values[better, span], scales[better, at] = chosen[better], scale[better]
        now[:, span] += change
        pull += change @ hessian[span]
    return values, scales


def _widest(part: Array, scheme: Scheme) -> Array:
    return np.asarray(np.abs(part).max(axis=1) / np.float32(integer_range(scheme.bits)[1]), np.float32)


def _quantise_span(
    part: Array, factor: Array, candidates: Array, bits: int
) -> tuple[NDArray[np.int8], Array, Array]:
    """GPTQ within a few columns, under several scales at once.

    Args:
        part: (O, n) numbers wanted.
        factor: (n, n) upper; the rows of U for these columns.
        candidates: (C, O) scales.
        bits: 8 or 4.

    Returns:
        (O, n) integers, (O,) scale, and (O, n) errors over U's diagonal, of the best candidate per row.
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
        rest = wanted[j] - factor[:j, j] @ errors[:j]
        np.clip(np.rint(rest * inverse), low, top, out=integers[j])
        errors[j] = (rest - integers[j] * scale) / factor[j, j]
    losses = np.einsum("nc,nc->c", errors, errors).reshape(count, rows)
    pick = losses.argmin(axis=0) * rows + np.arange(rows)
    return (
        np.ascontiguousarray(integers[:, pick].T).astype(np.int8),
        scale[pick],
        np.ascontiguousarray(errors[:, pick].T),
    )
