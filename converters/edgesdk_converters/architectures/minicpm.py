"""MiniCPM 1 and 2: llama with three scales that are told by the sizes which they were tuned at."""

from __future__ import annotations

import math
from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_minicpm(config: ConfigReader) -> DecoderSpec:
    """GGUF files tell the scales themselves, as granite's do."""
    plain = read_common(config, "minicpm", tied=True)
    L, bias = len(plain.layers), config.flag("attention_bias", False)
    base = config.integer("dim_model_base", plain.hidden_size)
    return replace(
        plain,
        layers=make_layers([None] * L, [read_rotary(config, plain)] * L),
        qkv_bias=bias,
        out_bias=bias,
        embedding_scale=config.number("embedding_multiplier", config.number("scale_emb", 1.0)),
        residual_scale=config.number(
            "residual_multiplier", config.number("scale_depth", math.sqrt(L)) / math.sqrt(L)
        ),
        logits_scale=1 / config.number("logits_scaling", plain.hidden_size / base),
    ).spec()


MINICPM = Architecture(
    "minicpm",
    ("minicpm",),
    read_minicpm,
    llama_names(gguf_pairs=True),
    irrelevant=frozenset({"auto_map"}),  # these files bring their code, which transformers never took over
)
