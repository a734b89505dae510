"""ERNIE 4.5 and Helium: llama whose files hold q and k for rotation in neighbouring pairs."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import PAIR_HALVES, llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary

ERNIE_THETA, HELIUM_THETA = 500_000.0, 100_000.0


def read_ernie(config: ConfigReader) -> DecoderSpec:
    """One switch for all biases; the head size is independent of the hidden size."""
    plain = read_common(config, "ernie4_5", tied=True, needs_head_size=True)
    L = len(plain.layers)
    bias = config.flag("use_bias", config.flag("attention_bias", False))  # GGUF's tensors tell the latter
    config.expect("mlp_bias", bias)
    layers = make_layers([None] * L, [read_rotary(config, plain, ERNIE_THETA)] * L)
    return replace(plain, layers=layers, qkv_bias=bias, out_bias=bias, ffn_bias=bias).spec()


def read_helium(config: ConfigReader) -> DecoderSpec:
    """No bias on the output, whatever q, k and v have."""
    plain = read_common(config, "helium", needs_head_size=True)
    L = len(plain.layers)
    return replace(
        plain,
        layers=make_layers([None] * L, [read_rotary(config, plain, HELIUM_THETA)] * L),
        qkv_bias=config.flag("attention_bias", False),
        ffn_bias=config.flag("mlp_bias", False),
    ).spec()


ERNIE4_5 = Architecture(
    "ernie4_5",
    ("ernie4_5",),
    read_ernie,
    # llama.cpp rotates neighbours as well, so its files keep the order.
    llama_names(gguf_pairs=True, huggingface_combine=PAIR_HALVES),
    # Published files name the release's own code, and how that code runs.
    irrelevant=frozenset(
        {"auto_map", "freq_allocation", "compression_ratio", "fuse_rms_norm", "use_rmsnorm"}
    ),
)
HELIUM = Architecture(
    "helium", ("helium",), read_helium, llama_names(gguf_pairs=None, huggingface_combine=PAIR_HALVES)
)
