"""Llama 1 to 3 and what shares its shape (SmolLM, SmolLM2, TinyLlama)."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_llama(config: ConfigReader) -> DecoderSpec:
    """Full attention everywhere; biases where the configuration says."""
    plain = read_common(config, "llama")
    L = len(plain.layers)
    bias = config.flag("attention_bias", False)
    return replace(
        plain,
        layers=make_layers([None] * L, [read_rotary(config, plain)] * L),
        qkv_bias=bias,
        out_bias=bias,
        ffn_bias=config.flag("mlp_bias", False),
    ).spec()


LLAMA = Architecture("llama", ("llama",), read_llama, llama_names(gguf_pairs=True))
