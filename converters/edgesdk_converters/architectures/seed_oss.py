"""Seed-OSS: llama with biases on q, k and v, and a switch of its own for the output's."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_seed_oss(config: ConfigReader) -> DecoderSpec:
    """Full attention everywhere; the head size is independent of the hidden size."""
    plain = read_common(config, "seed_oss", needs_head_size=True)
    L = len(plain.layers)
    return replace(
        plain,
        layers=make_layers([None] * L, [read_rotary(config, plain)] * L),
        qkv_bias=config.flag("attention_bias", True),
        out_bias=config.flag("attention_out_bias", False),
        ffn_bias=config.flag("mlp_bias", False),
    ).spec()


SEED_OSS = Architecture(
    "seed_oss",
    ("seed_oss",),
    read_seed_oss,
    # llama.cpp names the norm before the feed-forward as what follows attention.
    llama_names(gguf_pairs=False, gguf={"layers.{i}.mlp_norm": "blk.{i}.post_attention_norm.weight"}),
    irrelevant=frozenset({"residual_dropout"}),  # training only
)
