"""Mistral 7B and its kin: llama with a sliding window in every layer, or in none."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_mistral(config: ConfigReader) -> DecoderSpec:
    """One window for all layers, which the configuration must state, if only as null."""
    plain = read_common(config, "mistral")
    L = len(plain.layers)
    if not config.stated("sliding_window"):
        # Hugging Face's default is 4096, but a file that says nothing more often means none.
        raise config.error("sliding_window", "a number of tokens, or null written out for none")
    window = config.optional_integer("sliding_window")
    return replace(plain, layers=make_layers([window] * L, [read_rotary(config, plain)] * L)).spec()


MISTRAL = Architecture("mistral", ("mistral",), read_mistral, llama_names(gguf_pairs=True))
