"""Vectors of texts against a reference's: how alike each is, and whether they put texts in the same order.

Vectors of one model have a large part in common, so a cosine alone stays high when what tells texts apart is
gone. An order of texts by their nearness to another has no such part. It knows neither texts nor models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.vector_parity import VectorFigures, VectorParity

Wide = NDArray[np.float64]

_SMALLEST = 1e-30


def compare_vectors(
    found: NDArray[np.floating], reference: NDArray[np.floating], lengths: Sequence[int]
) -> VectorFigures:
    """Compares vectors row by row, and their orders.

    Args:
        found: (n, W), n at least 3.
        reference: (n, W) of the same texts.
        lengths: of the texts, in tokens.
    """
    ours, theirs = _unit(found), _unit(reference)
    alike = (ours * theirs).sum(axis=1)
    return VectorFigures(
        texts=len(alike),
        longest_tokens=max(lengths),
        cosine_mean=float(alike.mean()),
        cosine_least=float(alike.min()),
        order_agreement=_same_order(ours @ ours.T, theirs @ theirs.T),
    )


def misses_vector_gate(measured: VectorFigures, recorded: VectorParity) -> str | None:
    """Why a measurement misses a variant's gate; None if it does not.

    Args:
        measured: now.
        recorded: at conversion; holds the gate.
    """
    # Written so that NaN misses.
    for what, value, gate in (
        ("the least cosine", measured.cosine_least, recorded.gate_cosine),
        ("the agreement on the order of texts", measured.order_agreement, recorded.gate_order),
    ):
        if not value >= gate:
            return f"{what} {value:.4f} is below the recipe's {gate:g}"
    return None


def _unit(vectors: NDArray[np.floating]) -> Wide:
    rows = np.asarray(vectors, np.float64)
    unit: Wide = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _SMALLEST)
    return unit


def _same_order(ours: Wide, theirs: Wide) -> float:
    """Share of (a, b, c), all different, for which both say alike which of b and c is nearer to a."""
    same = total = 0
    for a in range(len(ours)):
        others = np.arange(len(ours)) != a
        signs = [np.sign(near[a, others][:, None] - near[a, others]) for near in (ours, theirs)]
        upper = np.triu_indices(len(ours) - 1, 1)
        same += int((signs[0][upper] == signs[1][upper]).sum())
        total += len(upper[0])
    return same / total
