"""Mistral 7B and its kin: llama with a sliding window in every layer, in none, or in some (Ministral)."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common, read_windows
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_mistral(config: ConfigReader) -> DecoderSpec:
    """One window for all layers."""
    plain = read_common(config, "mistral")
    L, window = len(plain.layers), _read_window(config)
    return replace(plain, layers=make_layers([window] * L, [read_rotary(config, plain)] * L)).spec()


def read_ministral(config: ConfigReader) -> DecoderSpec:
    """Windows by `layer_types`; without it, in every layer."""
    plain = read_common(config, "ministral")
    L, window = len(plain.layers), _read_window(config)
    windows = read_windows(config, L, window, lambda i: window is not None)
    return replace(plain, layers=make_layers(windows, [read_rotary(config, plain)] * L)).spec()


def _read_window(config: ConfigReader) -> int | None:
    """The window, which the configuration must state, if only as null."""
    if not config.stated("sliding_window"):
        # Hugging Face's default is 4096, but a file that says nothing more often means none.
        raise config.error("sliding_window", "a number of tokens, or null written out for none")
    return config.optional_integer("sliding_window")


_NAMES = llama_names(gguf_pairs=True)
MISTRAL = Architecture("mistral", ("mistral",), read_mistral, _NAMES)
MINISTRAL = Architecture("ministral", ("ministral",), read_ministral, _NAMES)
