"""Moves magnitude between neighbouring layers, channel by channel: exact in floating point.

What a linear layer reads is divided by a factor per channel, and the columns of its weight are
multiplied by it. The division is folded into whatever made the channels: the weight of an RMS norm,
the rows of `up` (the gate multiplies, so it passes through), or the rows of the value projection
(attention mixes tokens, not channels; query heads that share a KV head share its factors).
(AWQ, arXiv 2306.00978, section 3.2; SmoothQuant, arXiv 2211.10438, equation 4.)

It does not choose the factors: see `edgesdk_converters.quantise.choose_scales`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, load_rows
from edgesdk_converters.quantise.scalable_inputs import scalable_inputs


def scale_channels(program: Program, factors: Mapping[str, NDArray[np.float32]]) -> Program:
    """Returns the program with the inputs of some linear layers divided by factors.

    Args:
        program: after `fold_norms` or not, before or after `fuse_linears`.
        factors: by name of a value that linear layers read: (I,) positive numbers. For the result of
            attention, factors of query heads with the same KV head must be equal.

    Raises:
        TransformError: a value is not made by something that can take the division, or factors have
            the wrong size, are not positive, or differ within a KV head.
    """
    places = {place.value: place for place in scalable_inputs(program)}
    columns: dict[str, NDArray[np.float32]] = {}
    rows: dict[str, NDArray[np.float32]] = {}
    for value, factor in factors.items():
        if value not in places:
            raise TransformError(f"{value!r} cannot be scaled; expected one of {', '.join(places) or 'none'}")
        place = places[value]
        if factor.shape != (place.channels,) or not (np.isfinite(factor) & (factor > 0)).all():
            raise TransformError(
                f"factors of {value!r} have shape {factor.shape}; expected {place.channels} positive numbers"
            )
        if not np.array_equal(place.share(factor), factor):
            raise TransformError(f"factors of {value!r} differ between query heads with the same KV head")
        for name in place.readers:
            columns[name] = np.asarray(factor, np.float32)
        for name, start in place.makers:
            made = place.reduce(factor)
            full = rows.setdefault(name, np.ones(program.weights.shape(name)[0], np.float32))
            full[start : start + len(made)] /= made
    changed = {
        name: Derived(
            program.weights.shape(name),
            lambda base, n=name: _scaled(base.load(n), rows.get(n), columns.get(n)),  # type: ignore[misc]
            rows=lambda base, start, stop, n=name: _scaled(  # type: ignore[misc]
                load_rows(base, n, start, stop),
                None if rows.get(n) is None else rows[n][start:stop],
                columns.get(n),
            ),
        )
        for name in {*rows, *columns}
    }
    return Program(
        spec=program.spec,
        graph=program.graph,
        weights=DerivedWeights(program.weights, changed, frozenset()),
        history=(*program.history, TransformRecord("scale_channels", {"scaled": len(factors)})),
    )


def _scaled(weight: Array, rows: NDArray[np.float32] | None, columns: NDArray[np.float32] | None) -> Array:
    if rows is not None:
        weight = weight * (rows[:, None] if weight.ndim == 2 else rows)
    return weight if columns is None else weight * columns[None, :]
