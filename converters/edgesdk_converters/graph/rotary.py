"""Angles of rotary position embeddings, shared by the evaluator and every emitter's tables.

Variants: `default` (RoFormer, section 3.4.2), `linear` (position interpolation), `llama3` (frequency
bands of Llama 3.1), `yarn` (YaRN, arXiv 2309.00071, sections 3.2 to 3.4).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_block import RotarySpec


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
    return frequencies


def rotary_table(rotary: RotarySpec, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines of positions 0 to count - 1, times the attention factor: (count, size / 2) each."""
    angles = np.arange(count, dtype=np.float64)[:, None] * inverse_frequencies(rotary)[None, :]
    factor = rotary.attention_factor
    return (np.cos(angles) * factor).astype(np.float32), (np.sin(angles) * factor).astype(np.float32)


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
