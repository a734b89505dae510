"""One line for a variant that misses its gate: by how much, where it is worst, and what to try."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk.bundle.manifest import Variant
from edgesdk_converters.quantise.calibrate import CalibrationRecord

_WORST = 3
_NEXT = {
    "w4c": "w4b32",
    "w4b64": "w4b32",
    "w4b32": "w4b32 with --budget perplexity=1.05, or w8",
    "w8": "f16",
    "source": "w8",
    "source-h4": "source",
    "p4": "w8",
    "f16": "f32",
}


def explain_miss(variant: Variant, miss: str, calibration: Sequence[CalibrationRecord]) -> str:
    """Puts a miss into words.

    Args:
        variant: that missed.
        miss: by how much.
        calibration: how well each calibrated matrix came out, if any was.
    """
    # What a layer's outputs lose says more than what its numbers lose; without calibration those must do.
    lost = {record.weight: record.error for record in calibration if record.error} or {
        record.name: record.relative_error for record in variant.weights if record.relative_error
    }
    worst = sorted(lost, key=lambda name: -lost[name])[:_WORST]
    where = ", ".join(f"{name} {lost[name]:.1%}" for name in worst)
    loses = f" (its matrices lose most in {where})" if worst else ""
    calibrated = variant.recipe.removesuffix("-round")
    if calibrated not in _NEXT:
        better = "a recipe with more bits"
    elif calibrated != variant.recipe:
        better = f"recipe {calibrated}, which is calibrated"
    else:
        better = f"recipe {_NEXT[calibrated]}"
    return (
        f"{variant.name}: {miss}{loses}; use {better}, or keep it and record the miss with "
        "--allow-parity-miss"
    )
