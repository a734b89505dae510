"""CWM (Code World Model): llama in which every fourth layer sees everything and the others have a window."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common, read_windows
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary

THETA = 1_000_000.0
EVERYTHING_EVERY = 4


def read_cwm(config: ConfigReader) -> DecoderSpec:
    """Windows by `layer_types`; without it the first of every four layers has none."""
    plain = read_common(config, "cwm", needs_head_size=True)
    L = len(plain.layers)
    if not (config.filled("rope_parameters") or config.filled("rope_scaling")):
        # transformers would take Llama 3's scaling by 16 then; a file that says nothing may mean none.
        raise config.error("rope_parameters", "an object with its rope_type, since the default is a scaling")
    window = config.optional_integer("sliding_window")
    windows = read_windows(config, L, window, lambda i: i % EVERYTHING_EVERY != 0)
    config.expect("attention_bias", False)
    rotaries = [read_rotary(config, plain, THETA)] * L
    return replace(
        plain, layers=make_layers(windows, rotaries), ffn_bias=config.flag("mlp_bias", False)
    ).spec()


CWM = Architecture("cwm", ("cwm",), read_cwm, llama_names(gguf_pairs=None))
