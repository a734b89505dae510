"""The gate of a recipe: what a variant must reach, at conversion and wherever it is verified."""

from __future__ import annotations

from edgesdk.bundle.manifest import ParityReport
from edgesdk.evaluation.probe import ProbeReport


def misses_gate(measured: ParityReport | ProbeReport, recorded: ParityReport) -> str | None:
    """Why a measurement misses a variant's gate; None if it does not.

    Args:
        measured: now.
        recorded: at conversion; holds the gate.
    """
    # Written so that NaN misses.
    if not measured.perplexity_ratio <= recorded.gate_perplexity_ratio:
        return (
            f"perplexity ratio {measured.perplexity_ratio:.3f} is above "
            f"the recipe's {recorded.gate_perplexity_ratio:.3f}"
        )
    if not measured.top1_agreement >= recorded.gate_top1_agreement:
        return (
            f"top-1 agreement {measured.top1_agreement:.3f} is below "
            f"the recipe's {recorded.gate_top1_agreement:.3f}"
        )
    return None
