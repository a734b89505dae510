"""Hunyuan's dense models: llama with norms on q and k after rotation, and a base stretched by `alpha`."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_hunyuan(config: ConfigReader) -> DecoderSpec:
    """Full attention everywhere."""
    config.expect("use_qk_norm", True)
    config.expect("use_cla", False)
    config.expect("norm_type", "rms")
    plain = read_common(config, "hunyuan_v1_dense", needs_head_size=True)
    L, bias = len(plain.layers), config.flag("attention_bias", False)
    rotary = read_rotary(config, plain, stretched=True)
    return replace(
        plain,
        layers=make_layers([None] * L, [rotary] * L),
        qkv_bias=bias,
        out_bias=bias,
        ffn_bias=config.flag("mlp_bias", False),
        qk_norm=True,
        qk_norm_place="rotated",
    ).spec()


_IRRELEVANT = frozenset(
    {"eod_token_id", "im_start_id", "im_end_id", "im_newline_id", "text_start_id", "text_end_id",
     "mask_init_id", "pad_id", "sep_id", "org_vocab_size", "cla_share_factor", "auto_map",
     "attention_head_dim"}
)  # fmt: skip

HUNYUAN = Architecture(
    "hunyuan_v1_dense",
    ("hunyuan_v1_dense", "hunyuan-dense"),  # the latter is GGUF's
    read_hunyuan,
    llama_names(
        gguf_pairs=False,
        huggingface={
            "layers.{i}.q_norm": "model.layers.{i}.self_attn.query_layernorm.weight",
            "layers.{i}.k_norm": "model.layers.{i}.self_attn.key_layernorm.weight",
        },
    ),
    irrelevant=_IRRELEVANT,
)
