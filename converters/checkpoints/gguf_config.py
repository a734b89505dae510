"""Translates a GGUF file's metadata into the configuration keys of Hugging Face.

One table serves every architecture; what a format leaves unsaid (and llama.cpp hard-codes) is in
`_UNSAID`. A key of the architecture that the table does not know is an error: ignoring it would
give a model that runs and is wrong. Key meanings: ggml, docs/gguf.md, and llama.cpp's converter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from converters.checkpoints.checkpoint import TensorStore
from converters.checkpoints.gguf_header import MetadataValue
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError

Config = dict[str, JsonValue]

_KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
    "rope.freq_base_swa": "rope_local_base_freq",
    "vocab_size": "vocab_size",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_SCALING = {
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
# Read elsewhere in this module, or without meaning for what the model computes.
_HANDLED = {"attention.value_length", "rope.dimension_count", "attention.sliding_window_pattern"}
_IRRELEVANT = {"tensor_data_layout", "rope.scaling.finetuned", "attention.causal"}
_ROPE_FACTORS = "rope_freqs.weight"


def _gemma2(config: Config) -> Config:
    layers, heads, hidden = (
        _int(config, k) for k in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    kinds: list[JsonValue] = ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)]
    scalar = hidden // heads if layers == 46 else _int(config, "head_dim")  # 27B differs
    return {"layer_types": kinds, "query_pre_attn_scalar": scalar, "hidden_activation": "gelu_pytorch_tanh"}


def _gemma3(config: Config) -> Config:
    layers, heads, hidden = (
        _int(config, k) for k in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    kinds: list[JsonValue] = ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(layers)]
    scalar = hidden // heads if layers == 62 else _int(config, "head_dim")  # 27B differs
    return {
        "layer_types": kinds,
        "query_pre_attn_scalar": scalar,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_local_base_freq": config.get("rope_local_base_freq", 10000.0),
    }


def _smollm3(config: Config) -> Config:
    return {"no_rope_layer_interval": 4}


_UNSAID: Mapping[str, Callable[[Config], Config]] = {
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "smollm3": _smollm3,
}


def config_from_gguf(metadata: Mapping[str, MetadataValue], tensors: TensorStore) -> Config:
    """Builds a configuration.

    Args:
        metadata: of the file.
        tensors: of the file; some facts are only in which tensors there are.

    Returns:
        Keys as in config.json; `model_type` is `general.architecture`.

    Raises:
        CheckpointError: a key is missing, of the wrong type, or unknown.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise CheckpointError("the GGUF file does not say its general.architecture")
    own = {
        key.removeprefix(f"{architecture}."): value
        for key, value in metadata.items()
        if key.startswith(f"{architecture}.")
    }
    unknown = sorted(set(own) - set(_KEYS) - set(_SCALING) - _HANDLED - _IRRELEVANT)
    if unknown:
        key = f"{architecture}.{unknown[0]}"
        raise CheckpointError(
            f"the GGUF file has the key {key} = {str(own[unknown[0]])[:40]}, which this version does not know"
        )
    config: Config = {"model_type": architecture}
    config |= {hf: _scalar(architecture, key, own[key]) for key, hf in _KEYS.items() if key in own}
    for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count"):
        if key not in own:
            raise CheckpointError(f"the GGUF file lacks {architecture}.{key}")
        if _int(config, _KEYS[key]) < 1:
            raise CheckpointError(f"the GGUF file has {architecture}.{key} = {own[key]}; expected at least 1")
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    head = _int(config, "head_dim") if "head_dim" in config else _head_size(config)
    config["head_dim"] = head
    if own.get("attention.value_length", head) != head:
        raise CheckpointError("keys and values of different sizes are not supported")
    rotary = own.get("rope.dimension_count", head)
    if isinstance(rotary, int) and rotary != head:
        config["partial_rotary_factor"] = rotary / head
    if "token_embd.weight" in tensors:
        config["vocab_size"] = tensors.shape("token_embd.weight")[0]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    if "blk.0.attn_q.bias" in tensors:
        config["attention_bias"] = True
    scaling = _scaling(architecture, own, tensors, config)
    if scaling:
        config["rope_scaling"] = scaling
    unsaid = _UNSAID.get(architecture)
    return config if unsaid is None else config | unsaid(config)


def _head_size(config: Config) -> int:
    hidden, heads = _int(config, "hidden_size"), _int(config, "num_attention_heads")
    if hidden % heads:
        raise CheckpointError(
            f"{heads} heads do not divide a hidden size of {hidden}, and no head size is given"
        )
    return hidden // heads


def _scaling(
    architecture: str, own: Mapping[str, MetadataValue], tensors: TensorStore, config: Config
) -> Config | None:
    found = {hf: _scalar(architecture, key, own[key]) for key, hf in _SCALING.items() if key in own}
    if _ROPE_FACTORS in tensors:
        return _llama3_scaling(tensors.load(_ROPE_FACTORS), config)
    if found.get("rope_type", "none") == "none":
        return None
    return found


def _llama3_scaling(factors: NDArray[np.float32], config: Config) -> Config:
    """The settings of Llama 3's frequency bands, from the factors that llama.cpp precomputes of them."""
    theta, head = config.get("rope_theta", 10000.0), _int(config, "head_dim")
    wavelength = 2 * math.pi * np.power(float(str(theta)), np.arange(0, head, 2) / head)
    factor, low, high = float(factors.max()), 1.0, 4.0
    for original in (8192, 4096, 16384, 32768):
        blend = (original / wavelength - low) / (high - low)
        bands = 1 / ((1 - blend) / factor + blend)
        bands = np.where(wavelength > original / low, factor, bands)
        bands = np.where(wavelength < original / high, 1.0, bands)
        if bands.shape == factors.shape and np.allclose(bands, factors, rtol=1e-3):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    raise CheckpointError(f"the rotary factors in {_ROPE_FACTORS} are not Llama 3's; they are not supported")


def _scalar(architecture: str, key: str, value: MetadataValue) -> JsonValue:
    if isinstance(value, list):
        if value and all(item == value[0] for item in value):
            return value[0]
        raise CheckpointError(f"{architecture}.{key} differs from layer to layer, which is not supported")
    return value


def _int(config: Config, key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CheckpointError(f"the configuration has {key} = {value!r}; expected a whole number")
    return value
