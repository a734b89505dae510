"""Rotary position settings of a GGUF file as configuration keys of Hugging Face.

llama.cpp writes Llama 3's frequency bands as a tensor of factors and forgets the four numbers they
came from; the numbers are found again here, or the file is refused. Key meanings: llama.cpp's
converter and loader (`rope.*`); factors: `LlamaModel.generate_extra_tensors` there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.gguf_header import MetadataValue

Config = dict[str, JsonValue]
Metadata = Mapping[str, MetadataValue]

DEFAULT_THETA = 10000.0
_TYPE, _FACTOR, _OLD_FACTOR = "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"
# What each kind of scaling reads, besides the factor.
_YARN = {
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
# Other values than these would change the frequencies in ways that Hugging Face's settings cannot say.
_ONLY_ONE = ("rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor")
_THETA, _LOCAL_THETA, _DIMENSIONS = "rope.freq_base", "rope.freq_base_swa", "rope.dimension_count"
FINETUNED = "rope.scaling.finetuned"  # how the model came about; what it computes in granite alone
HANDLED = frozenset(
    {_TYPE, _FACTOR, _OLD_FACTOR, _THETA, _LOCAL_THETA, _DIMENSIONS, FINETUNED, *_YARN, *_ONLY_ONE}
)
"""Keys, without the architecture, that `rotary_config` reads."""

_BANDS, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
_ORIGINAL, _ATTENTION = "rope.scaling.original_context_length", "rope.scaling.attn_factor"
_ORIGINALS = (8192, 4096, 16384, 32768)  # tried when no band lies between the two that are not blended
_LOW, _HIGH = 1.0, 4.0  # of every published Llama 3


def rotary_config(prefix: str, own: Metadata, tensors: TensorStore, head_size: int) -> Config:
    """Builds `rope_theta`, `rope_scaling` and what else concerns rotation.

    Args:
        prefix: `general.architecture` and a dot, for messages.
        own: metadata of the architecture, without the prefix.
        tensors: of the file.
        head_size: D, at least 1.

    Raises:
        CheckpointError: a value has the wrong type or cannot be expressed.
    """
    numbers = {
        key: read_number(prefix, key, own[key])
        for key in (_FACTOR, _OLD_FACTOR, _THETA, _LOCAL_THETA, _DIMENSIONS, *_YARN, *_ONLY_ONE)
        if key in own
    }
    # The loader's default, whatever the architecture's own is.
    theta = numbers.get(_THETA, DEFAULT_THETA)
    config: Config = {"rope_theta": theta}
    if _LOCAL_THETA in numbers:
        config["rope_local_base_freq"] = numbers[_LOCAL_THETA]
    rotating = numbers.get(_DIMENSIONS, head_size)
    if rotating != head_size:
        config["partial_rotary_factor"] = rotating / head_size
    scaling = None if _LONG in tensors else _scaling(prefix, own, numbers)
    if _BANDS in tensors:
        if scaling is not None:
            raise CheckpointError(
                f"the GGUF file has both {_BANDS} and {quoted(prefix + _TYPE)}; expected one"
            )
        if tensors.shape(_BANDS) != (head_size // 2,):
            raise CheckpointError(
                f"{_BANDS} has the shape {tensors.shape(_BANDS)}, expected ({head_size // 2},)"
            )
        scaling = _llama3(tensors.load(_BANDS), theta)
    if _LONG in tensors:
        scaling = _longrope(own, numbers, tensors)
    if scaling is not None:
        config["rope_scaling"] = scaling
    return config


def _longrope(own: Metadata, numbers: Mapping[str, float], tensors: TensorStore) -> Config:
    """Both lists of factors are tensors; the attention factor is a number of the file."""
    if _SHORT not in tensors or _ORIGINAL not in own:
        raise CheckpointError(f"the GGUF file has {_LONG}, but no {_SHORT} or no {_ORIGINAL}; it is damaged")
    scaling: Config = {
        "rope_type": "longrope",
        "short_factor": tensors.load(_SHORT).tolist(),
        "long_factor": tensors.load(_LONG).tolist(),
        "original_max_position_embeddings": numbers[_ORIGINAL],
    }
    if _ATTENTION in numbers:
        scaling["attention_factor"] = numbers[_ATTENTION]
    return scaling


def _scaling(prefix: str, own: Metadata, numbers: Mapping[str, float]) -> Config | None:
    factor = numbers.get(_FACTOR, numbers.get(_OLD_FACTOR, 0.0)) or 1.0
    # The loader takes a factor without a type for linear scaling.
    kind = own.get(_TYPE, "linear")
    if not isinstance(kind, str):
        raise CheckpointError(f"the GGUF file has {quoted(prefix + _TYPE)} = {quoted(kind)}, expected a name")
    for key in _ONLY_ONE:
        if numbers.get(key, 1.0) != 1.0:
            raise CheckpointError(
                f"the GGUF file has {quoted(prefix + key)} = {numbers[key]}, expected 1.0; nothing else "
                "is supported"
            )
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return None
    if kind != "yarn":
        return {"rope_type": kind, "factor": factor}
    found: Config = {hf: numbers[key] for key, hf in _YARN.items() if key in numbers}
    return {"rope_type": kind, "factor": factor, **found}


def _llama3(factors: NDArray[np.float32], theta: float) -> Config:
    """The settings whose frequency bands are these factors: (D/2,) float32, one per frequency."""
    factor = float(factors.max())
    originals = _originals(factors, factor, theta) if 1 < factor < math.inf else []
    for original in originals:
        if np.allclose(_bands(len(factors), theta, factor, float(original)), factors, rtol=1e-3):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": _LOW,
                "high_freq_factor": _HIGH,
                "original_max_position_embeddings": original,
            }
    raise CheckpointError(
        f"the rotary factors in {_BANDS} are not Llama 3's; convert from the Hugging Face checkpoint, whose "
        "configuration says what they are"
    )


def _originals(factors: NDArray[np.float32], factor: float, theta: float) -> list[int]:
    """Original contexts that the factors may be of; every blended band tells it."""
    with np.errstate(all="ignore"):  # absurd values tell nothing
        blend = (1 / factors.astype(np.float64) - 1 / factor) / (1 - 1 / factor)
        told = _wavelengths(len(factors), theta) * (blend * (_HIGH - _LOW) + _LOW)
    told = told[(factors > 1) & (factors < factor) & np.isfinite(told)]
    return [*(round(float(value)) for value in told[:1]), *_ORIGINALS]


def _wavelengths(count: int, theta: float) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        lengths: NDArray[np.float64] = 2 * math.pi * np.power(np.float64(theta), np.arange(count) / count)
        return lengths


def _bands(count: int, theta: float, factor: float, original: float) -> NDArray[np.float64]:
    """By what Llama 3 divides each frequency."""
    wavelength = _wavelengths(count, theta)
    with np.errstate(all="ignore"):
        blend = (original / wavelength - _LOW) / (_HIGH - _LOW)
        bands = 1 / ((1 - blend) / factor + blend)
    bands = np.where(wavelength > original / _LOW, factor, bands)
    return np.where(wavelength < original / _HIGH, 1.0, bands)


def read_number(prefix: str, key: str, value: MetadataValue) -> int | float:
    """A value of a file's metadata that must be a number.

    Raises:
        CheckpointError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(
            f"the GGUF file has {quoted(prefix + key)} = {quoted(value)}, expected a number"
        )
    return value
