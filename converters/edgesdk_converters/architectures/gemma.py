"""Gemma 1, 2 and 3 as text, and VaultGemma.

Gemma 2 and VaultGemma cap scores and logits; Gemma 3 has norms on q and k, and two rotary bases.
"""

from __future__ import annotations

import math
from dataclasses import replace

from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.uniform_decoder import UniformDecoder
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.combine import AddOne
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common, read_windows
from edgesdk_converters.architectures.names import POST_NORMS, llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary, read_two_rotaries

GLOBAL_THETA, LOCAL_THETA = 1_000_000.0, 10_000.0
PATTERN = 6  # gemma3: every sixth layer sees everything


def read_gemma(config: ConfigReader) -> DecoderSpec:
    """Full attention, and no norms on outputs; `gelu` in old files means its tanh approximation."""
    config.expect("hidden_act", "gelu", "gelu_pytorch_tanh")
    plain = _read_gemma(config, "gemma", scale_key=None)
    config.expect("use_bidirectional_attention", False)
    L = len(plain.layers)
    return replace(
        plain, layers=make_layers([None] * L, [read_rotary(config, plain)] * L), post_norms=False
    ).spec()


def read_vaultgemma(config: ConfigReader) -> DecoderSpec:
    """Gemma 2 without norms on outputs."""
    return replace(_read_capped(config, "vaultgemma"), post_norms=False).spec()


def read_gemma2(config: ConfigReader) -> DecoderSpec:
    """Every other layer has a window; scores and logits are soft-capped."""
    return _read_capped(config, "gemma2").spec()


def _read_capped(config: ConfigReader, name: str) -> UniformDecoder:
    plain = _read_gemma(config, name)
    config.expect("use_bidirectional_attention", False)
    L = len(plain.layers)
    # Hugging Face's defaults are 50 and 30: a file that leaves them out does not mean none.
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if not config.stated(key):
            raise config.error(key, "a number, or null written out for none")
    windows = read_windows(config, L, config.optional_integer("sliding_window"), lambda i: i % 2 == 0)
    return replace(
        plain,
        layers=make_layers(windows, [read_rotary(config, plain)] * L),
        attention_softcap=config.optional_number("attn_logit_softcapping"),
        logits_softcap=config.optional_number("final_logit_softcapping"),
    )


def read_gemma3(config: ConfigReader) -> DecoderSpec:
    """Layers with a window rotate with one base, those that see everything with another.

    EmbeddingGemma is one whose tokens see the whole text, within a window of both ways.
    """
    plain = _read_gemma(config, "gemma3")
    L = len(plain.layers)
    config.expect("attn_logit_softcapping")  # transformers has the key but applies no cap
    every = config.integer("sliding_window_pattern", PATTERN)
    window = config.optional_integer("sliding_window")
    whole = config.flag("use_bidirectional_attention", False)
    if whole and window is not None:  # in all, of which transformers makes an exclusive bound either way
        window = window // 2 + 1
    windows = read_windows(config, L, window, lambda i: (i + 1) % every != 0)
    everywhere, local = _read_rotaries(config, plain)
    softcap = config.optional_number("final_logit_softcapping")
    spec = replace(
        plain,
        layers=make_layers(windows, [everywhere if window is None else local for window in windows]),
        qk_norm=True,
        logits_softcap=None if whole else softcap,
    ).spec()
    return replace(spec, is_causal=not whole)


def _read_gemma(
    config: ConfigReader, name: str, scale_key: str | None = "query_pre_attn_scalar"
) -> UniformDecoder:
    plain = read_common(
        config,
        name,
        tied=True,
        activation_key="hidden_activation",
        activation="gelu_pytorch_tanh",
        needs_head_size=True,
    )
    bias = config.flag("attention_bias", False)
    return replace(
        plain,
        attention_scale=plain.attention_scale if scale_key is None else config.number(scale_key) ** -0.5,
        embedding_scale=math.sqrt(plain.hidden_size),
        qkv_bias=bias,
        out_bias=bias,
        post_norms=True,
    )


def _read_rotaries(config: ConfigReader, plain: UniformDecoder) -> tuple[RotarySpec, RotarySpec]:
    """Rotary settings of layers that see everything, and of layers with a window."""
    theta, local = (
        config.number("rope_theta", GLOBAL_THETA),
        config.number("rope_local_base_freq", LOCAL_THETA),
    )
    if config.filled("rope_scaling"):
        scaling = config.section("rope_scaling")
        if scaling.has("type") and not scaling.has("rope_type"):
            raise scaling.error(
                "type",
                "the name rope_type for gemma3: transformers scales by 'type' up to version 4 and ignores it "
                "from 5 on; name it rope_type if the model is scaled, or remove rope_scaling",
            )
    return read_two_rotaries(config, plain, theta, local)


_LAYER_NORMS = ("attn_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm", "q_norm", "k_norm")
# Norms multiply by 1 + weight; GGUF files have the one added already.
_ADD_ONE = {name: AddOne() for name in ("final_norm", *(f"layers.{{i}}.{norm}" for norm in _LAYER_NORMS))}
_NAMES = llama_names(gguf_pairs=False, huggingface=POST_NORMS, huggingface_combine=_ADD_ONE)

# transformers reads `sliding_window_pattern` alone and writes the other name beside `layer_types`, which
# decide where they are there.
_IRRELEVANT_TO_GEMMA3 = frozenset({"hidden_act", "_sliding_window_pattern"})

GEMMA = Architecture(
    "gemma", ("gemma",), read_gemma, llama_names(gguf_pairs=False, huggingface_combine=_ADD_ONE)
)
# hidden_act: transformers reads hidden_activation alone.
GEMMA2 = Architecture("gemma2", ("gemma2",), read_gemma2, _NAMES, irrelevant=frozenset({"hidden_act"}))
VAULTGEMMA = Architecture(
    "vaultgemma",
    ("vaultgemma",),
    read_vaultgemma,
    llama_names(gguf_pairs=None, huggingface=POST_NORMS, huggingface_combine=_ADD_ONE),
    irrelevant=frozenset({"hidden_act"}),
)
# `gemma3` is GGUF's name of the text model; in Hugging Face's files it is the one with vision, which
# keeps its text settings in a nested object and is refused for it.
GEMMA3 = Architecture(
    "gemma3", ("gemma3_text", "gemma3"), read_gemma3, _NAMES, irrelevant=_IRRELEVANT_TO_GEMMA3
)
