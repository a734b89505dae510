"""OLMo 2 and 3: norms on what halves give instead of what they read, and on all heads of q and k together."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import Architecture
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common, read_windows
from edgesdk_converters.architectures.names import POST_NORMS, llama_names
from edgesdk_converters.architectures.rotary_config import DEFAULT_THETA, read_rotary, read_two_rotaries

THETA_OF_3 = 500_000.0
EVERYTHING_EVERY = 4


def read_olmo2(config: ConfigReader) -> DecoderSpec:
    """Full attention everywhere; GGUF files call OLMo 3 so too, which has windows then."""
    config.expect("clip_qkv")
    return _read_olmo(config, "olmo2", DEFAULT_THETA)


def read_olmo3(config: ConfigReader) -> DecoderSpec:
    """Every fourth layer sees everything, and alone has its rotation scaled."""
    return _read_olmo(config, "olmo3", THETA_OF_3)


def _read_olmo(config: ConfigReader, name: str, theta: float) -> DecoderSpec:
    plain = read_common(config, name)
    L, bias = len(plain.layers), config.flag("attention_bias", False)
    window = config.optional_integer("sliding_window")
    windows = read_windows(
        config, L, window, lambda i: window is not None and (i + 1) % EVERYTHING_EVERY != 0
    )
    theta = config.number("rope_theta", theta)
    if window is None:
        everywhere = local = read_rotary(config, plain, theta)
    else:
        everywhere, local = read_two_rotaries(config, plain, theta, theta)
    return replace(
        plain,
        layers=make_layers(windows, [everywhere if w is None else local for w in windows]),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=True,
        qk_norm_place="whole",
        pre_norms=False,
        post_norms=True,
    ).spec()


_NAMES = llama_names(gguf_pairs=False, huggingface=POST_NORMS)
OLMO2 = Architecture("olmo2", ("olmo2",), read_olmo2, _NAMES)
OLMO3 = Architecture("olmo3", ("olmo3",), read_olmo3, _NAMES)
