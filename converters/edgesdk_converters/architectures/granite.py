"""Granite 3 and 4 without experts and states, and HyperCLOVA X: llama with four scales.

Granite 4's dense models call themselves `granitemoehybrid`: a stack of attention whose only feed-forward is
the one that the others share between experts. Experts and Mamba layers are refused by name.
"""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.uniform_decoder import UniformDecoder
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.combine import SliceRows
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_granite(config: ConfigReader) -> DecoderSpec:
    """Logits are divided by their scale."""
    return replace(_read_scaled(config, "granite", 1.0), ffn_bias=config.flag("mlp_bias", False)).spec()


def read_granite_hybrid(config: ConfigReader) -> DecoderSpec:
    """Without experts and with attention in every layer; rotation only where it is named."""
    config.integer("num_local_experts", 0, minimum=0, maximum=0)
    kinds = config.items("layer_types", config.integer("num_hidden_layers"))
    if kinds is None or any(kind not in ("attention", "full_attention") for kind in kinds):
        raise config.error("layer_types", "attention in every layer; Mamba layers are not supported")
    return _read_scaled(config, "granitemoehybrid", 1.0, "shared_intermediate_size").spec()


def read_hyperclovax(config: ConfigReader) -> DecoderSpec:
    """Logits are multiplied by their scale, and outputs of halves may have a norm."""
    plain = _read_scaled(config, "hyperclovax", None)
    return replace(
        plain,
        logits_scale=1 / plain.logits_scale,
        post_norms=config.flag("use_post_norm", True),
        ffn_bias=config.flag("mlp_bias", False),
    ).spec()


def _read_scaled(
    config: ConfigReader, name: str, score_scale: float | None, ffn_key: str = "intermediate_size"
) -> UniformDecoder:
    """Sizes, biases and scales; `score_scale` is an absent attention_multiplier, None for 1/sqrt(D)."""
    plain = read_common(config, name, ffn_key=ffn_key)
    L, bias = len(plain.layers), config.flag("attention_bias", False)
    rotary = read_rotary(config, plain)
    rotates = config.text("position_embedding_type", "nope" if name == "granitemoehybrid" else "rope")
    if rotates not in ("rope", "nope"):
        raise config.error("position_embedding_type", "rope, nope or null")
    return replace(
        plain,
        layers=make_layers([None] * L, [rotary if rotates == "rope" else None] * L),
        qkv_bias=bias,
        out_bias=bias,
        attention_scale=config.number("attention_multiplier", score_scale or plain.attention_scale),
        embedding_scale=config.number("embedding_multiplier", 1.0),
        residual_scale=config.number("residual_multiplier", 1.0),
        logits_scale=1 / config.number("logits_scaling", 1.0),
    )


_HYBRID = {
    "layers.{i}.gate": "model.layers.{i}.shared_mlp.input_linear.weight",
    "layers.{i}.up": "model.layers.{i}.shared_mlp.input_linear.weight",
    "layers.{i}.down": "model.layers.{i}.shared_mlp.output_linear.weight",
}
_POST_NORMS = {
    "layers.{i}.attn_post_norm": "model.layers.{i}.post_norm1.weight",
    "layers.{i}.mlp_post_norm": "model.layers.{i}.post_norm2.weight",
}
# What experts and Mamba layers would read, of which there are none.
_NOT_THERE = frozenset(
    {"intermediate_size", "num_experts_per_tok", "output_router_logits", "router_aux_loss_coef",
     "time_step_limit", "normalization_function", "init_method", "mamba_n_heads", "mamba_n_groups",
     "mamba_d_state", "mamba_d_head", "mamba_d_conv", "mamba_expand", "mamba_chunk_size", "mamba_conv_bias",
     "mamba_proj_bias"}
)  # fmt: skip

GRANITE = Architecture("granite", ("granite",), read_granite, llama_names(gguf_pairs=True))
GRANITE_HYBRID = Architecture(
    "granitemoehybrid",
    ("granitemoehybrid",),
    read_granite_hybrid,
    llama_names(
        gguf_pairs=None,  # llama.cpp's converter calls them granite, and splits what is fused here
        huggingface=_HYBRID,
        huggingface_combine={
            "layers.{i}.gate": lambda block: SliceRows(0, 2 * block.ffn.size),
            "layers.{i}.up": lambda block: SliceRows(block.ffn.size, 2 * block.ffn.size),
        },
    ),
    irrelevant=_NOT_THERE,
)
HYPERCLOVAX = Architecture(
    "hyperclovax",
    ("hyperclovax",),
    read_hyperclovax,
    llama_names(gguf_pairs=None, huggingface=_POST_NORMS),
    irrelevant=frozenset({"auto_map"}),  # the release's own copy of what transformers has had since
)
