"""Compares a compiled variant with what it was compiled from, on a few tokens, where that can be done.

Qualcomm's x86-64 package simulates every Hexagon processor, at seconds to half a minute a token, so a few
positions catch a broken compilation and are no measure of quality: that is `edgesdk verify` on the device.
Elsewhere nothing is run, and the manifest says so. It does not know how a compiler is called.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.qnn.provider import is_simulated
from edgesdk.bundle.manifest import ParityReport, Variant
from edgesdk.errors import DeviceError, EdgeError
from edgesdk.evaluation.agreement import Agreement
from edgesdk.evaluation.gate import misses_gate
from edgesdk.load_model import load

SOURCE_BACKEND = "onnxruntime-step"
COMPILED_BACKEND = "onnxruntime-qnn-compiled"
TEXT = "The capital of France is Paris, and the capital of Italy is Rome."

BROKEN_RATIO = 1.2
BROKEN_TOP1 = 0.5
"""Beyond these a compiled model is taken for broken. On a few positions one near-tie is a large share."""


def prove_compiled(folder: Path, source: Variant, made: Variant, positions: int) -> Variant:
    """Runs both variants on the first tokens of one text, a token a step.

    Args:
        folder: a bundle that holds both.
        source: what it was compiled from.
        made: the compiled variant.
        positions: how many to score; 0 to run nothing.

    Returns:
        The compiled variant with a parity report, or with the reason why there is none.

    Raises:
        DeviceError: the compiled model runs, but says something else than its source.
    """
    if not positions:
        return _unproven(source, made, "no positions were asked for")
    if not is_simulated():
        return _unproven(source, made, "there is no simulator of its processor for this machine")
    try:
        tokens, expected = _score(folder, source.name, SOURCE_BACKEND, positions)
        _, found = _score(folder, made.name, COMPILED_BACKEND, positions)
    except EdgeError as error:
        return _unproven(source, made, f"running it failed: {error}")
    agreement = Agreement()
    agreement.add(tokens, found, expected)
    report = _report(source, made, agreement)
    broken = dataclasses.replace(report, gate_perplexity_ratio=BROKEN_RATIO, gate_top1_agreement=BROKEN_TOP1)
    miss = misses_gate(report, broken)
    if miss is not None:
        raise DeviceError(
            f"{made.name} does not say what {source.name} says: over {report.positions} positions {miss}; "
            "another version of the compiler may do better"
        )
    return dataclasses.replace(made, parity=report, parity_skipped=None)


def _unproven(source: Variant, made: Variant, reason: str) -> Variant:
    sentence = f"it should say what {source.name} says, which nothing has verified: {reason}"
    return dataclasses.replace(made, parity=None, parity_skipped=sentence)


def _score(
    folder: Path, variant: str, backend: str, positions: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens, and the logits after each: (n,) and (n, V). The last row is zero: nothing follows it."""
    with load(folder, backend=backend, variant=variant, strict=True) as model:
        ids = model.render_prompt(TEXT, raw=True)
        tokens = np.array(ids[: min(positions + 1, model.context)], np.int32)
        sequence = model.new_sequence()
        try:
            rows = [sequence.extend(tokens[i : i + 1]).copy() for i in range(len(tokens) - 1)]
        finally:
            sequence.close()
    return tokens, np.array([*rows, np.zeros_like(rows[0])])


def _report(source: Variant, made: Variant, agreement: Agreement) -> ParityReport:
    found = agreement.report()
    gate = source.parity
    soc = "a processor" if made.compatibility is None else made.compatibility.soc
    return ParityReport(
        backend=COMPILED_BACKEND,
        positions=found.positions,
        perplexity=found.perplexity,
        reference_perplexity=found.reference_perplexity or 0.0,
        perplexity_ratio=found.perplexity_ratio or 0.0,
        kl_nats=found.kl_nats or 0.0,
        top1_agreement=found.top1_agreement or 0.0,
        # What the device must reach against the bundle's reference is what its source had to.
        gate_perplexity_ratio=BROKEN_RATIO if gate is None else gate.gate_perplexity_ratio,
        gate_top1_agreement=BROKEN_TOP1 if gate is None else gate.gate_top1_agreement,
        against=f"{source.name} on the CPU, {found.positions} positions, {soc} simulated",
    )
