"""SmolLM3: llama in which every fourth layer has no position encoding."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common, read_windows
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary

THETA = 2_000_000.0
NO_ROTARY_EVERY = 4


def read_smollm3(config: ConfigReader) -> DecoderSpec:
    """`no_rope_layers` holds 1 for layers that rotate and 0 for those that do not."""
    plain = read_common(config, "smollm3", tied=True)
    L = len(plain.layers)
    every = config.integer("no_rope_layer_interval", NO_ROTARY_EVERY)
    rotates = config.items("no_rope_layers", L) or [int((i + 1) % every != 0) for i in range(L)]
    if any(flag not in (0, 1) for flag in rotates):
        raise config.error("no_rope_layers", "a list of 0 and 1")
    window = config.optional_integer("sliding_window")
    if not config.flag("use_sliding_window", False):
        window = None
    windows = read_windows(config, L, window, lambda i: window is not None and not rotates[i])
    rotary = read_rotary(config, plain, THETA)
    bias = config.flag("attention_bias", False)
    return replace(
        plain,
        layers=make_layers(windows, [rotary if flag else None for flag in rotates]),
        qkv_bias=bias,
        out_bias=bias,
        ffn_bias=config.flag("mlp_bias", False),
    ).spec()


SMOLLM3 = Architecture(
    "smollm3",
    ("smollm3",),
    read_smollm3,
    llama_names(gguf_pairs=True),
    irrelevant=frozenset({"max_window_layers"}),  # in published files, read by nothing
)
