"""Angles of rotary position embeddings, shared by the evaluator and every emitter's tables.

Variants: `default` (RoFormer, section 3.4.2), `linear` (position interpolation), `llama3` (frequency
bands of Llama 3.1), `yarn` (YaRN, arXiv 2309.00071, sections 3.2 to 3.4), `longrope` (LongRoPE, arXiv
2402.13753, section 3: a factor for each frequency), `proportional` (gemma4: the first
pairs of a head alone).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_block import RotarySpec

_NAMED = 11  # fields of a rotary embedding that are short enough to stand in a name


def inverse_frequencies(rotary: RotarySpec) -> NDArray[np.float64]:
    """Radians per position of each channel pair: (size / 2,) float64."""
    exponents = np.arange(0, rotary.size, 2, dtype=np.float64) / rotary.size
    frequencies: NDArray[np.float64] = np.power(rotary.theta, -exponents)
    if rotary.kind == "linear":
        return frequencies / rotary.factor
    if rotary.kind == "llama3":
        return _llama3(frequencies, rotary)
    if rotary.kind == "yarn":
        return _yarn(frequencies, rotary)
    if rotary.kind == "longrope":
        return frequencies / np.array(rotary.factors, np.float64)
    if rotary.kind == "proportional":
        turns = np.arange(rotary.size // 2) < rotary.turning
        return np.where(turns, frequencies / rotary.factor, 0.0)
    return frequencies


def rotary_table(rotary: RotarySpec, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines of positions 0 to count - 1, times what scales them: (count, size / 2) each."""
    return rotary_rows(rotary, np.arange(count))


def rotary_rows(
    rotary: RotarySpec, positions: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows of `rotary_table` of some positions (T,): (T, size / 2) each."""
    # Angles in float64: float32 loses whole radians at long contexts.
    places = np.asarray(positions, np.float64)[:, None]
    angles = places * inverse_frequencies(rotary)[None, :]
    factor: float | NDArray[np.float64] = rotary.attention_factor
    if rotary.growth:
        factor = factor * (1 + rotary.growth * np.log1p(np.floor(places / rotary.original_context)))
    return (np.cos(angles) * factor).astype(np.float32), (np.sin(angles) * factor).astype(np.float32)


def table_name(rotary: RotarySpec) -> str:
    """Tells the tables of one rotary embedding from those of others, within a file."""
    told = "_".join(str(value) for value in dataclasses.astuple(rotary)[:_NAMED])
    if not rotary.factors and not rotary.growth and not rotary.turning:
        return told
    more = repr((rotary.factors, rotary.growth, *([rotary.turning] if rotary.turning else []))).encode()
    return f"{told}_{hashlib.sha256(more).hexdigest()[:12]}"


def _llama3(frequencies: NDArray[np.float64], rotary: RotarySpec) -> NDArray[np.float64]:
    wavelength = 2 * math.pi / frequencies
    low = rotary.original_context / rotary.low_freq_factor
    high = rotary.original_context / rotary.high_freq_factor
    blend = (rotary.original_context / wavelength - rotary.low_freq_factor) / (
        rotary.high_freq_factor - rotary.low_freq_factor
    )
    mixed = (1 - blend) * frequencies / rotary.factor + blend * frequencies
    slow = np.where(wavelength > low, frequencies / rotary.factor, mixed)
    return np.where(wavelength < high, frequencies, slow)


def _yarn(frequencies: NDArray[np.float64], rotary: RotarySpec) -> NDArray[np.float64]:
    def channel(rotations: float) -> float:
        turns = rotary.original_context / (rotations * 2 * math.pi)
        return rotary.size * math.log(turns) / (2 * math.log(rotary.theta))

    low, high = channel(rotary.beta_fast), channel(rotary.beta_slow)
    if rotary.truncate:
        low, high = float(math.floor(low)), float(math.ceil(high))
    low, high = max(low, 0), min(high, rotary.size - 1)
    if low == high:
        high += 0.001  # the reference implementation's guard against division by zero
    ramp = np.clip((np.arange(rotary.size // 2) - low) / (high - low), 0, 1)
    mixed: NDArray[np.float64] = frequencies / rotary.factor * ramp + frequencies * (1 - ramp)
    return mixed
