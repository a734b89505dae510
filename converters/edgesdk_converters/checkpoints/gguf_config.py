"""Translates a GGUF file's metadata into the configuration keys of Hugging Face.

One table serves every architecture; what the format leaves unsaid (and llama.cpp hard-codes per
architecture) is in `_UNSAID`. A key of the architecture that the table does not know is an error:
ignoring it would give a model that runs and is wrong. It does not know which configurations make a
decoder; that is for `architectures`. Key meanings: ggml, docs/gguf.md, and what llama.cpp's
converter writes and its loader does with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.checkpoint import TensorStore
from edgesdk_converters.checkpoints.gguf_gemma4 import GEMMA4_KEYS, split_gemma4
from edgesdk_converters.checkpoints.gguf_header import MetadataValue
from edgesdk_converters.checkpoints.gguf_rotary import FINETUNED as _FINETUNED
from edgesdk_converters.checkpoints.gguf_rotary import HANDLED as ROTARY_HANDLED
from edgesdk_converters.checkpoints.gguf_rotary import rotary_config
from edgesdk_converters.checkpoints.refuse_unfit import refuse_unfit

Config = dict[str, JsonValue]
Metadata = Mapping[str, MetadataValue]

_INTEGERS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "vocab_size": "vocab_size",
}
_NUMBERS = {
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_SCALES = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
_WITH_SCALES = frozenset({"granite", "minicpm"})
# Llama 4's growth of queries; what YaRN's temperature is multiplied by, which is gone at 1.
_GROWTH, _LOG_MULTIPLIER = "attention.temperature_scale", "rope.scaling.yarn_log_multiplier"
# What llama.cpp's converter writes of layers that a dense Granite 4 has none of; their tensors would tell.
_OF_NO_LAYER = ("ssm.", "expert_shared_feed_forward_length")
_NEEDED = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
_WINDOW = "attention.sliding_window"  # 0 means that there is none
# Keys that may only have values which change nothing; an absent key has them.
_ONLY: Mapping[str, tuple[MetadataValue, ...]] = {
    "attention.causal": (True,),
    "tensor_data_layout": ("reference", "Meta AI original pth"),
    "expert_count": (0,),
    "expert_used_count": (0,),
}
_TAPS = "shortconv.l_cache"
_WINDOW_PATTERN = "attention.sliding_window_pattern"
_HANDLED = ROTARY_HANDLED | {"attention.value_length", "pooling_type"}
_LONGEST_NAME = 64


def config_from_gguf(metadata: Metadata, tensors: TensorStore) -> Config:
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
    if not isinstance(architecture, str) or len(architecture) > _LONGEST_NAME:
        raise CheckpointError("the GGUF file does not say its general.architecture")
    refuse_unfit(architecture)
    prefix = f"{architecture}."
    own: Metadata = {
        key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)
    }
    _check_keys(architecture, own)
    config: Config = {"model_type": architecture}
    if architecture == "lfm2":
        own, kinds = _without_convolutions(own)
        config |= kinds
    if architecture == "gemma4":
        own, kinds = split_gemma4(own, tensors)
        config |= kinds
    config |= {hf: _integer(prefix, key, own[key]) for key, hf in _INTEGERS.items() if key in own}
    numbers = _NUMBERS | _SCALES if architecture in _WITH_SCALES else _NUMBERS
    config |= {hf: _number(prefix, key, own[key]) for key, hf in numbers.items() if key in own}
    if config.get("sliding_window") == 0:
        del config["sliding_window"]
    _set_heads(config, own)
    _check_layers(config, tensors)
    if "rope_parameters" not in config:
        config |= rotary_config(prefix, own, tensors, _get(config, "head_dim"))
    config |= _from_tensors(architecture, tensors)
    return config | _UNSAID[architecture](config, own) if architecture in _UNSAID else config


def _check_keys(architecture: str, own: Metadata) -> None:
    for key in _NEEDED:
        if key not in own:
            raise CheckpointError(f"the GGUF file lacks the key {quoted(f'{architecture}.{key}')}")
    known = {*_INTEGERS, *_NUMBERS, *_ONLY, *_HANDLED}
    if architecture in _WITH_PATTERN:
        known.add(_WINDOW_PATTERN)
    if architecture in _WITH_SCALES:
        known |= {*_SCALES, *(key for key in own if key.startswith(_OF_NO_LAYER))}
    if architecture == "lfm2":
        known.add(_TAPS)
    if architecture == "gemma4":
        known |= GEMMA4_KEYS
    if architecture == "mistral3":
        known |= {_GROWTH, _LOG_MULTIPLIER}
    for key, value in sorted(own.items()):
        name = quoted(f"{architecture}.{key}")
        if key not in known:
            raise CheckpointError(
                f"the GGUF file has the key {name} with value {quoted(value)}, which this version does not "
                "know; it may change the model, so it is not ignored"
            )
        if key in _ONLY and value not in _ONLY[key]:
            raise CheckpointError(
                f"the GGUF file has {name} = {quoted(value)}, expected {_ONLY[key][0]!r}; nothing else is "
                "supported"
            )


def _set_heads(config: Config, own: Metadata) -> None:
    hidden, heads = _get(config, "hidden_size"), _get(config, "num_attention_heads")
    config.setdefault("num_key_value_heads", heads)
    if "head_dim" not in config and hidden % heads:
        raise CheckpointError(
            f"the GGUF file has {heads} heads, which do not divide its hidden size of {hidden}, and gives "
            "no attention.key_length"
        )
    config.setdefault("head_dim", hidden // heads)
    size, values = _get(config, "head_dim"), own.get("attention.value_length")
    if values is not None and values != size:
        raise CheckpointError(
            f"the GGUF file has keys of size {size} and values of size {quoted(values)}; different "
            "sizes are not supported"
        )


def _check_layers(config: Config, tensors: TensorStore) -> None:
    """Lists are made one item per layer, so the count must be true."""
    layers, count = _get(config, "num_hidden_layers"), sum(1 for _ in tensors)
    if layers > count:
        raise CheckpointError(f"the GGUF file claims {layers} layers, but has {count} tensors; it is damaged")


def _from_tensors(architecture: str, tensors: TensorStore) -> Config:
    """What only the presence and the shape of tensors say."""
    config: Config = {"tie_word_embeddings": "output.weight" not in tensors}
    if "token_embd.weight" in tensors:
        config["vocab_size"] = tensors.shape("token_embd.weight")[0]
    if "blk.0.attn_q.bias" in tensors:
        config["attention_bias"] = True
    if "blk.0.ffn_gate.bias" in tensors:
        config["mlp_bias"] = True
    if architecture == "seed_oss":  # its biases are apart, and those of q, k and v are there by default
        config["attention_bias"] = "blk.0.attn_q.bias" in tensors
        config["attention_out_bias"] = "blk.0.attn_output.bias" in tensors
    return config


def _gemma2(config: Config, own: Metadata) -> Config:
    defaults: Config = {
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    absent = {key: value for key, value in defaults.items() if key not in config}
    return absent | _gemma(config, largest=46) | {"layer_types": _layer_types(config, own, period=2)}


def _gemma3(config: Config, own: Metadata) -> Config:
    period = 6 if "sliding_window" in config else 1  # without a window every layer sees everything
    return _gemma(config, largest=62) | {"layer_types": _layer_types(config, own, period)}


def _gemma(config: Config, largest: int) -> Config:
    """The scale of scores, which no key says; the largest model (by its layers) has another."""
    if config["num_hidden_layers"] == largest:
        scalar = _get(config, "hidden_size") // _get(config, "num_attention_heads")
    else:
        scalar = _get(config, "head_dim")
    return {"query_pre_attn_scalar": scalar, "hidden_activation": "gelu_pytorch_tanh"}


def _layer_types(config: Config, own: Metadata, period: int) -> list[JsonValue]:
    """The last of every `period` layers sees everything; the file may say another period, or a list."""
    layers, pattern = _get(config, "num_hidden_layers"), own.get(_WINDOW_PATTERN, period)
    if type(pattern) is int and pattern >= 0:
        slides = [pattern == 0 or i % pattern < pattern - 1 for i in range(layers)]
    elif isinstance(pattern, list) and len(pattern) == layers and all(v in (0, 1) for v in pattern):
        slides = [bool(v) for v in pattern]
    else:
        raise CheckpointError(
            f"the GGUF file has {_WINDOW_PATTERN} = {quoted(pattern)}, expected a number or one flag for "
            f"each of {layers} layers"
        )
    return ["sliding_attention" if slide else "full_attention" for slide in slides]


def _without_convolutions(own: Metadata) -> tuple[Metadata, Config]:
    """LFM2: a layer with as many KV heads as 0 is a convolution.

    Returns:
        The keys with the KV heads of attention, and the configuration of the layers.
    """
    heads = own.get("attention.head_count_kv")
    if not isinstance(heads, list) or not all(type(item) is int for item in heads):
        return own, {}
    kinds: list[JsonValue] = ["full_attention" if item else "conv" for item in heads]
    attending: list[int] = [item for item in heads if type(item) is int and item] or [0]
    return {**own, "attention.head_count_kv": attending}, {"layer_types": kinds}


def _lfm2(config: Config, own: Metadata) -> Config:
    """The size of the feed-forward is the one that blocks have; a layer's kind follows from its KV heads."""
    taps = own.get(_TAPS)
    if type(taps) is not int:
        raise CheckpointError(f"the GGUF file has lfm2.{_TAPS} = {quoted(taps)}, expected a whole number")
    eps = config.pop("rms_norm_eps", None)
    return {"conv_L_cache": taps, "block_auto_adjust_ff_dim": False, "norm_eps": eps}


def _smollm3(config: Config, own: Metadata) -> Config:
    return {"no_rope_layer_interval": 4}


def _granite(config: Config, own: Metadata) -> Config:
    """llama.cpp rotates where the file says that the model was trained with it, which it is otherwise too."""
    return {"position_embedding_type": "nope" if own.get(_FINETUNED) is False else "rope"}


def _with_windows(config: Config, own: Metadata) -> Config:
    """OLMo 3 and EXAONE 4, whose last of four layers sees everything where there is a window at all.

    Layers with a window turn as the others do; llama.cpp's converter says so of OLMo 3.
    """
    local = config.pop("rope_local_base_freq", config["rope_theta"])
    if local != config["rope_theta"]:
        raise CheckpointError(
            f"the GGUF file has rope.freq_base_swa = {quoted(local)}, expected {config['rope_theta']!r} as "
            "in layers without a window; nothing else is supported"
        )
    if "sliding_window" not in config:
        return {"sliding_window": None}
    return {"layer_types": _layer_types(config, own, period=4)}


def _mistral3(config: Config, own: Metadata) -> Config:
    """The rotary settings in one object, where queries may grow."""
    scaling, multiplier = config.pop("rope_scaling", None), own.get(_LOG_MULTIPLIER, 1.0)
    if multiplier != 1.0 or not isinstance(scaling, dict):
        raise CheckpointError(
            f"the GGUF file has {_LOG_MULTIPLIER} = {quoted(multiplier)} and rotary scaling "
            f"{quoted(scaling)}, expected 1.0 and yarn"
        )
    beta = own.get(_GROWTH)
    growth: Config = {"llama_4_scaling_beta": _number("mistral3.", _GROWTH, beta)} if beta else {}
    one: Config = {"attention_factor": None, "mscale": 1.0, "mscale_all_dim": 1.0}
    return {"rope_parameters": {"rope_theta": config["rope_theta"], **scaling, **one, **growth}}


_UNSAID: Mapping[str, Callable[[Config, Metadata], Config]] = {
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "granite": _granite,
    "lfm2": _lfm2,
    "olmo2": _with_windows,
    "exaone4": _with_windows,
    "mistral3": _mistral3,
    "smollm3": _smollm3,
}
_WITH_PATTERN = frozenset({"gemma2", "gemma3", "olmo2", "exaone4"})


def _one(prefix: str, key: str, value: MetadataValue) -> MetadataValue:
    """One value for all layers, of a value that may be given for each."""
    if not isinstance(value, list):
        return value
    if value and all(item == value[0] for item in value):
        return value[0]
    raise CheckpointError(
        f"the GGUF file has {quoted(prefix + key)} = {quoted(value)}, which differs from layer to layer; "
        "that is not supported"
    )


def _integer(prefix: str, key: str, value: MetadataValue) -> int:
    one = _one(prefix, key, value)
    least = 0 if key == _WINDOW else 1
    if type(one) is not int or one < least:
        raise CheckpointError(
            f"the GGUF file has {quoted(prefix + key)} = {quoted(one)}, expected a whole number, at "
            f"least {least}"
        )
    return one


def _number(prefix: str, key: str, value: MetadataValue) -> float:
    one = _one(prefix, key, value)
    if isinstance(one, bool) or not isinstance(one, int | float):
        raise CheckpointError(f"the GGUF file has {quoted(prefix + key)} = {quoted(one)}, expected a number")
    return float(one)


def _get(config: Config, key: str) -> int:
    value = config[key]
    assert isinstance(value, int), key  # `_integer` has checked it
    return value
