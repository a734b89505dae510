"""Reads rotary position embedding settings in both styles of Hugging Face configurations.

Old style: `rope_theta`, `partial_rotary_factor` and `rope_scaling` at the top. New style: one object
`rope_parameters`, or one per layer type inside it (gemma3). What the numbers do is in
`edgesdk_converters.graph.rotary`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.uniform_decoder import UniformDecoder
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.config_reader import ConfigReader

DEFAULT_THETA = 10000.0


def read_rotary(
    config: ConfigReader, decoder: UniformDecoder, theta: float = DEFAULT_THETA, *, partial: bool = False
) -> RotarySpec:
    """Reads the rotary settings that all layers share.

    Args:
        config: the configuration.
        decoder: its sizes.
        theta: base that the architecture has when the configuration names none.
        partial: the architecture may rotate only some channels.

    Raises:
        CheckpointError: a kind, key or value is not known.
    """
    theta = config.number("rope_theta", theta)
    share = config.number("partial_rotary_factor", 1.0)
    # A null or empty object says nothing. Where both styles are used, they must agree.
    read = [
        read_rotary_section(config.section(key), decoder, theta, share)
        for key in ("rope_parameters", "rope_scaling")
        if config.filled(key)
    ]
    if any(rotary != read[0] for rotary in read):
        raise _disagree(config)
    rotary = read[0] if read else read_rotary_section(ConfigReader({}), decoder, theta, share)
    if not partial and rotary.size != decoder.head_size:
        raise CheckpointError(
            f"config.partial_rotary_factor makes {rotary.size} of {decoder.head_size} channels rotate, but "
            f"{decoder.architecture} rotates all; the checkpoint is of another architecture"
        )
    return rotary


def read_rotary_section(
    settings: ConfigReader, decoder: UniformDecoder, theta: float, share: float = 1.0
) -> RotarySpec:
    """Reads one object of rotary settings and finishes it.

    Args:
        settings: `rope_scaling`, `rope_parameters` or one layer type's part of it; may be empty.
        decoder: sizes of the decoder.
        theta: base when the object names none.
        share: of a head's channels that rotate, when the object does not say.

    Raises:
        CheckpointError: a kind, key or value is not known.
    """
    key = "rope_type" if settings.has("rope_type") or not settings.has("type") else "type"
    kind = settings.text(key, "default")
    settings.expect("type", kind)  # both spellings may be there if they agree
    if kind not in _KINDS:
        raise settings.error(key, f"one of {', '.join(_KINDS)}; other rotary variants are not supported")
    theta = settings.number("rope_theta", theta)
    share = settings.number("partial_rotary_factor", share)
    size = int(decoder.head_size * min(share, 1.0))
    if size == 0 or size % 2 or share > 1:
        raise CheckpointError(
            f"a share {share} of {decoder.head_size} channels of a head would rotate, expected an even number"
        )
    rotary = _KINDS[kind](settings, theta, size, decoder.context)
    settings.finish()
    return rotary


def _disagree(config: ConfigReader) -> CheckpointError:
    return config.error(
        "rope_scaling", "what rope_parameters and rope_theta say as well, since both are there; remove one"
    )


def _default(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    return RotarySpec("default", theta, size)


def _dynamic(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    """Frequencies that change only beyond `max_position_embeddings` tokens, where no graph goes."""
    settings.number("factor", 1.0)
    settings.integer("original_max_position_embeddings", context)
    return RotarySpec("default", theta, size)


def _linear(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    return RotarySpec("linear", theta, size, factor=settings.number("factor"))


def _llama3(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    low, high = settings.number("low_freq_factor"), settings.number("high_freq_factor")
    if high <= low:
        raise settings.error("high_freq_factor", f"more than low_freq_factor, which is {low}")
    return RotarySpec(
        "llama3",
        theta,
        size,
        factor=settings.number("factor"),
        original_context=settings.integer("original_max_position_embeddings", context),
        low_freq_factor=low,
        high_freq_factor=high,
    )


def _yarn(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    if theta <= 1:
        raise CheckpointError(f"rope_theta is {theta}, expected more than 1 for yarn")
    original = settings.integer("original_max_position_embeddings", context)
    # A null or absent factor means the ratio of the two contexts, as in DeepSeek's configurations.
    factor = settings.number("factor", context / original)
    attention = settings.optional_number("attention_factor")
    mscale, mscale_all = settings.optional_number("mscale"), settings.optional_number("mscale_all_dim")
    if attention is None and mscale is not None and mscale_all is not None:
        attention = _mscale(factor, mscale) / _mscale(factor, mscale_all)
    return RotarySpec(
        "yarn",
        theta,
        size,
        factor=factor,
        original_context=original,
        beta_fast=settings.number("beta_fast", 32.0),
        beta_slow=settings.number("beta_slow", 1.0),
        attention_factor=_mscale(factor, 1.0) if attention is None else attention,
        truncate=settings.flag("truncate", True),
    )


def _mscale(factor: float, scale: float) -> float:
    """YaRN's temperature as a factor of cosine and sine (YaRN, section 3.4)."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


_KINDS: Mapping[str, Callable[[ConfigReader, float, int, int], RotarySpec]] = {
    "default": _default,
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
