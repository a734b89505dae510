"""Llama 1 to 3 and what shares its shape (SmolLM, SmolLM2, TinyLlama, InternLM3, IQuest Coder)."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.uniform_decoder import UniformDecoder
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_llama(config: ConfigReader) -> DecoderSpec:
    """Full attention everywhere; biases where the configuration says."""
    plain = _with_layers(config, read_common(config, "llama"))
    bias = config.flag("attention_bias", False)
    ffn_bias = config.flag("mlp_bias", False)
    return replace(plain, qkv_bias=bias, out_bias=bias, ffn_bias=ffn_bias).spec()


def read_internlm3(config: ConfigReader) -> DecoderSpec:
    """Llama whose released configurations call its biases `qkv_bias` and `bias`."""
    plain = _with_layers(config, read_common(config, "internlm3", needs_head_size=True))
    bias = config.flag("qkv_bias", config.flag("attention_bias", False))
    if bias != config.flag("bias", config.flag("mlp_bias", bias)):
        raise config.error("bias", f"{str(bias).lower()} as qkv_bias; other mixtures have no definition")
    return replace(plain, qkv_bias=bias, out_bias=bias, ffn_bias=bias).spec()


def read_iquestcoder(config: ConfigReader) -> DecoderSpec:
    """Llama; what its own code could do besides, no released file asks for."""
    config.expect("clip_qkv")
    plain = _with_layers(config, read_common(config, "iquestcoder", needs_head_size=True))
    bias = config.flag("attention_bias", False)
    ffn_bias = config.flag("mlp_bias", False)
    return replace(plain, qkv_bias=bias, out_bias=bias, ffn_bias=ffn_bias).spec()


def _with_layers(config: ConfigReader, plain: UniformDecoder) -> UniformDecoder:
    L = len(plain.layers)
    return replace(plain, layers=make_layers([None] * L, [read_rotary(config, plain)] * L))


_NAMES = llama_names(gguf_pairs=True)
# auto_map names the release's own copy of what transformers has had since.
_OWN_CODE = frozenset({"auto_map"})
LLAMA = Architecture("llama", ("llama",), read_llama, _NAMES)
INTERNLM3 = Architecture("internlm3", ("internlm3",), read_internlm3, _NAMES, _OWN_CODE)
IQUESTCODER = Architecture(
    "iquestcoder",
    ("iquestcoder",),
    read_iquestcoder,
    _NAMES,
    _OWN_CODE | {"sliding_window", "max_window_layers"},
)
