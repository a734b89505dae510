"""Says of every matrix how it came from its file: kept, quantised again, quantised, or floating point."""

from __future__ import annotations

from typing import Literal

import numpy as np

from converters.graph.program import Program
from converters.graph.weights import Array, stored_type
from converters.quantise.quantised_weights import QuantisedWeights
from edgesdk.bundle.manifest import WeightRecord

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_ROWS_AT_ONCE = 4096


def weight_records(program: Program, weights: QuantisedWeights) -> tuple[WeightRecord, ...]:
    """Describes every matrix of a variant, in the order of the graph.

    Floating point matrices that no file has (rotations, picks of channels) have nothing to say.

    Args:
        program: as emitted.
        weights: its weights under a recipe. Every matrix is read once.
    """
    records = (_record(program, weights, v.name) for v in program.graph.weights if len(v.shape) == 2)
    return tuple(record for record in records if record is not None)


def _record(program: Program, weights: QuantisedWeights, name: str) -> WeightRecord | None:
    kind, scheme = stored_type(program.weights, name), weights.scheme(name)
    if scheme is None and kind is None:
        return None
    if scheme is None:
        error = 0.0
        if weights.recipe.float_type == "float16":
            error = _relative_error(program.weights.load(name), weights, name)
        return WeightRecord(name, kind, "float", None, None, None, error)
    if scheme.algorithm == "stored":
        return WeightRecord(name, kind, "exact", scheme.bits, scheme.block, "stored", 0.0)
    integers = kind is not None and any(part not in _FLOATS for part in kind.split("+"))
    kept: Literal["requantised", "quantised"] = "requantised" if integers else "quantised"
    error = _relative_error(program.weights.load(name), weights, name)
    return WeightRecord(name, kind, kept, scheme.bits, scheme.block, scheme.algorithm, error)


def _relative_error(weight: Array, weights: QuantisedWeights, name: str) -> float:
    """|stored - weight| / |weight|, a few rows at a time: embeddings are large."""
    quantised = None if weights.scheme(name) is None else weights.stored(name)
    lost = whole = 0.0
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        rows = weight[start : start + _ROWS_AT_ONCE]
        if quantised is None:
            stored = rows.astype(np.float16).astype(np.float32)
        else:
            stored = quantised.rows(start, start + _ROWS_AT_ONCE).dequantise()
        lost += float(np.square(stored - rows, dtype=np.float64).sum())
        whole += float(np.square(rows, dtype=np.float64).sum())
    return (lost / whole) ** 0.5 if whole else 0.0
