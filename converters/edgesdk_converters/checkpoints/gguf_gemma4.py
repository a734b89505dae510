"""Gemma 4's metadata in a GGUF file, whose two kinds of layers differ in sizes.

The file names what layers have that see everything, and by keys that end in `_swa` what those with a window
have; feed-forwards may be twice as wide where keys and values are another layer's. Channels that do not
rotate have a factor of 1e30 in `rope_freqs.weight`, which layers that see everything read alone.
(llama.cpp, `conversion/gemma.py`, `Gemma4Model`; `src/models/gemma4.cpp`.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.gguf_header import MetadataValue
from edgesdk_converters.checkpoints.gguf_rotary import read_number

Config = dict[str, JsonValue]
Metadata = Mapping[str, MetadataValue]

_WIDTHS, _SHARED = "feed_forward_length", "attention.shared_kv_layers"
_INPUTS, _PATTERN = "embedding_length_per_layer_input", "attention.sliding_window_pattern"
_WIDE, _NARROW = "attention.key_length", "attention.key_length_swa"
_THETA, _LOCAL_THETA = "rope.freq_base", "rope.freq_base_swa"
_TURNED, _LOCAL_TURNED = "rope.dimension_count", "rope.dimension_count_swa"
_VALUES = {"attention.value_length": _WIDE, "attention.value_length_swa": _NARROW}
_FACTORS, _STILL = "rope_freqs.weight", 1e30
_TABLE = "per_layer_token_embd.weight"
GEMMA4_KEYS = frozenset(
    {_SHARED, _INPUTS, _PATTERN, _NARROW, "attention.value_length_swa", _LOCAL_THETA, _LOCAL_TURNED}
)
"""Keys that other architectures' files do not have."""


def split_gemma4(own: Metadata, tensors: TensorStore) -> tuple[Metadata, Config]:
    """Takes apart what differs by kind of layer.

    Args:
        own: metadata of the architecture, without its prefix.
        tensors: of the file.

    Returns:
        The keys that any decoder has, with the sizes of layers that have a window, and the configuration
        of everything else, rotation included.

    Raises:
        CheckpointError: a key is missing, or its value is not what such a file has.
    """
    wide, narrow = _size(own, _WIDE), _size(own, _NARROW)
    for key, same in _VALUES.items():
        if own.get(key, own[same]) != own[same]:
            raise _error(key, own.get(key), f"{own[same]!r}, as {same}")
    for key, size in ((_TURNED, wide), (_LOCAL_TURNED, narrow)):
        if own.get(key, size) != size:
            raise _error(key, own.get(key), f"{size}; channels that do not turn are said by {_FACTORS}")
    shared = _size(own, _SHARED, least=0)
    width, doubled = _widths(own, shared)
    config: Config = {
        "global_head_dim": wide,
        "num_kv_shared_layers": shared,
        "use_double_wide_mlp": doubled,
        "hidden_size_per_layer_input": _size(own, _INPUTS, least=0),
        "layer_types": _kinds(own),
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_parameters": {
            "full_attention": {
                "rope_type": "proportional",
                "rope_theta": _theta(own, _THETA),
                "partial_rotary_factor": _share(tensors, wide),
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": _theta(own, _LOCAL_THETA)},
        },
    }
    if _TABLE in tensors:
        config["vocab_size_per_layer_input"] = tensors.shape(_TABLE)[0]
    taken = GEMMA4_KEYS | {_THETA, _TURNED, "attention.value_length"}
    plain = {key: value for key, value in own.items() if key not in taken}
    return {**plain, _WIDE: narrow, _WIDTHS: width}, config


def _widths(own: Metadata, shared: int) -> tuple[int, bool]:
    """Of the feed-forward in layers with keys and values of their own, and whether it doubles after them."""
    widths, layers = own[_WIDTHS], _size(own, "block_count")
    if not isinstance(widths, list):
        return _size(own, _WIDTHS), False
    first, kept = widths[0] if widths else None, layers - shared
    if type(first) is int and len(widths) == layers and first > 0 and kept > 0:
        for doubled, last in ((False, first), (True, 2 * first)):
            if widths == [first] * kept + [last] * shared:
                return first, doubled
    raise _error(_WIDTHS, widths, f"one width for {layers} layers, twice it at most in the last {shared}")


def _kinds(own: Metadata) -> list[JsonValue]:
    layers, pattern = _size(own, "block_count"), own.get(_PATTERN)
    if not isinstance(pattern, list) or len(pattern) != layers or any(v not in (0, 1) for v in pattern):
        raise _error(_PATTERN, pattern, f"one flag for each of {layers} layers")
    return ["sliding_attention" if slides else "full_attention" for slides in pattern]


def _share(tensors: TensorStore, head: int) -> float:
    """The share of a head's channels that rotate."""
    if _FACTORS not in tensors:
        return 1.0
    # Its shape first: a head may claim more channels than there is memory.
    factors = tensors.load(_FACTORS) if tensors.shape(_FACTORS) == (head // 2,) else np.zeros(1, np.float32)
    turning = int(np.count_nonzero(factors == 1.0))
    if not np.array_equal(
        factors, np.where(np.arange(len(factors)) < turning, 1.0, _STILL).astype(np.float32)
    ):
        raise CheckpointError(
            f"{_FACTORS} has other factors than ones and then {_STILL:g} for {head // 2} pairs of channels; "
            "convert from the Hugging Face checkpoint, whose configuration says what they are"
        )
    return 2 * turning / head


def _theta(own: Metadata, key: str) -> float:
    return float(read_number("gemma4.", key, own.get(key, 10_000.0)))  # as llama.cpp where the key is missing


def _size(own: Metadata, key: str, *, least: int = 1) -> int:
    value = own.get(key)
    if type(value) is not int or value < least:
        raise _error(key, value, f"a whole number, at least {least}")
    return value


def _error(key: str, value: MetadataValue | None, expected: str) -> CheckpointError:
    return CheckpointError(f"the GGUF file has gemma4.{key} = {quoted(value)}, expected {expected}")
