"""EXAONE 4: norms on what halves give instead of what they read; layers that see everything do not rotate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common, read_windows
from edgesdk_converters.architectures.names import POST_NORMS, llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary

PATTERN = 4


def read_exaone4(config: ConfigReader) -> DecoderSpec:
    """Without a window every layer sees everything and rotates."""
    plain = read_common(config, "exaone4")
    L, window = len(plain.layers), config.optional_integer("sliding_window")
    windows = read_windows(config, L, window, _pattern(config, window))
    rotary = read_rotary(config, plain)
    return replace(
        plain,
        layers=make_layers(windows, [rotary if window is None or w is not None else None for w in windows]),
        qk_norm=True,
        pre_norms=False,
        post_norms=True,
    ).spec()


def _pattern(config: ConfigReader, window: int | None) -> Callable[[int], bool]:
    """Whether layer i has a window, where no `layer_types` say so: LLLG or the period of G."""
    if config.is_text("sliding_window_pattern"):
        letters = config.text("sliding_window_pattern")
        if not letters or set(letters) > {"L", "G"}:
            raise config.error("sliding_window_pattern", "a number, or letters L and G")
        return lambda i: window is not None and letters[i % len(letters)] == "L"
    every = config.integer("sliding_window_pattern", PATTERN, minimum=0)
    return lambda i: window is not None and every > 0 and (i + 1) % every != 0


EXAONE4 = Architecture(
    "exaone4", ("exaone4",), read_exaone4, llama_names(gguf_pairs=False, huggingface=POST_NORMS)
)
