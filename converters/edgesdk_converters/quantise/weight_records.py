"""Says of every matrix how it came from its file: kept, quantised again, quantised, or floating point."""

from __future__ import annotations

from typing import Literal

from edgesdk.bundle.manifest import WeightRecord
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import stored_type
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights, relative_error

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


def weight_records(program: Program, weights: QuantisedWeights) -> tuple[WeightRecord, ...]:
    """Describes every matrix of a variant, in the order of the graph.

    Floating point matrices that no file has (rotations, picks of channels) have nothing to say.

    Args:
        program: as emitted.
        weights: its weights under a recipe. Matrices that it has not rounded yet are read.
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
            error = relative_error(program.weights.load(name), None)
        return WeightRecord(name, kind, "float", None, None, None, error)
    if scheme.algorithm == "stored":
        weights.stored(name)
        lost = weights.relative_error(name)  # of scales that the target has in float16 only
        own: Literal["exact", "requantised"] = "requantised" if lost else "exact"
        return WeightRecord(name, kind, own, scheme.bits, scheme.block, "stored", lost)
    integers = kind is not None and any(part not in _FLOATS for part in kind.split("+"))
    kept: Literal["requantised", "quantised"] = "requantised" if integers else "quantised"
    error = weights.relative_error(name)
    return WeightRecord(name, kind, kept, scheme.bits, scheme.block, scheme.algorithm, error)
