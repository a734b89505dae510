"""Qwen2, Qwen2.5 (biases on q, k and v), the text of Qwen2.5-VL, and Qwen3 (norms on q and k instead)."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.uniform_decoder import UniformDecoder
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common, read_windows
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary

MAX_WINDOW_LAYERS = 28  # Hugging Face's default


def read_qwen2(config: ConfigReader) -> DecoderSpec:
    """Biases on q, k and v always; layers from `max_window_layers` on may have a window."""
    config.expect("attention_bias", True)  # not in published files; GGUF's configurations say it
    return replace(_with_layers(config, read_common(config, "qwen2")), qkv_bias=True).spec()


def read_qwen25_vl(config: ConfigReader) -> DecoderSpec:
    """Qwen2.5, whose channels rotate by three positions that are equal in a text."""
    plain = _with_layers(config, read_common(config, "qwen2_5_vl"), sectioned=True)
    return replace(plain, qkv_bias=True).spec()


def read_qwen3(config: ConfigReader) -> DecoderSpec:
    """RMS norms on q and k; the head size is independent of the hidden size."""
    bias = config.flag("attention_bias", False)
    plain = _with_layers(config, read_common(config, "qwen3", needs_head_size=True))
    return replace(plain, qk_norm=True, qkv_bias=bias, out_bias=bias).spec()


def _with_layers(config: ConfigReader, plain: UniformDecoder, *, sectioned: bool = False) -> UniformDecoder:
    window = config.optional_integer("sliding_window")
    if not config.flag("use_sliding_window", False):
        window = None
    first = config.integer("max_window_layers", MAX_WINDOW_LAYERS, minimum=0)
    L = len(plain.layers)
    windows = read_windows(config, L, window, lambda i: window is not None and i >= first)
    return replace(plain, layers=make_layers(windows, [read_rotary(config, plain, sectioned=sectioned)] * L))


QWEN2 = Architecture("qwen2", ("qwen2",), read_qwen2, llama_names(gguf_pairs=False))
QWEN3 = Architecture("qwen3", ("qwen3",), read_qwen3, llama_names(gguf_pairs=False))
QWEN25_VL = Architecture("qwen2_5_vl", ("qwen2_5_vl_text",), read_qwen25_vl, llama_names(gguf_pairs=None))
