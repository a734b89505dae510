"""Reads rotary position embedding settings in both styles of Hugging Face configurations.

Old style: `rope_theta`, `partial_rotary_factor` and `rope_scaling` at the top. New style: one object
`rope_parameters`, or one per layer type inside it (gemma3). What the numbers do is in
`edgesdk_converters.graph.rotary`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.uniform_decoder import UniformDecoder
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.config_reader import ConfigReader

DEFAULT_THETA = 10000.0


def read_rotary(
    config: ConfigReader,
    decoder: UniformDecoder,
    theta: float = DEFAULT_THETA,
    *,
    partial: bool = False,
    stretched: bool = False,
    sectioned: bool = False,
    original: int | None = None,
) -> RotarySpec:
    """Reads the rotary settings that all layers share.

    Args:
        config: the configuration.
        decoder: its sizes.
        theta: base that the architecture has when the configuration names none.
        partial: the architecture may rotate only some channels.
        stretched: `dynamic` may have an `alpha`, which stretches the base once and for all (hunyuan).
        sectioned: channels may be shared out to the three positions of an image (qwen2_5_vl).
        original: context of the first training, where it stands beside the rotary settings (phi3).

    Raises:
        CheckpointError: a kind, key or value is not known.
    """
    theta = config.number("rope_theta", theta)
    share = config.number("partial_rotary_factor", 1.0)
    # A null or empty object says nothing. Where both styles are used, they must agree.
    section = _read_stretched if stretched else _read_sectioned if sectioned else read_rotary_section
    more: dict[str, JsonValue] = {} if original is None else {"original_max_position_embeddings": original}
    read = [
        section(config.section(key).extended(more), decoder, theta, share)
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


def _read_stretched(
    settings: ConfigReader, decoder: UniformDecoder, theta: float, share: float
) -> RotarySpec:
    """NTK-aware scaling by a fixed alpha: the base becomes base * alpha^(D / (D - 2)).

    Files repeat settings of other kinds beside it, which transformers does not read.
    """
    alpha, size = settings.optional_number("alpha"), decoder.head_size
    if alpha is not None and size > 2:
        for key in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim"):
            settings.optional_number(key)
        theta = settings.number("rope_theta", theta) * alpha ** (size / (size - 2))
        settings.expect("type", "dynamic")
        settings.expect("rope_type", "dynamic")
        settings.optional_number("factor")
        settings.finish()
        return RotarySpec("default", theta, size)
    return read_rotary_section(settings, decoder, theta, share)


def _read_sectioned(
    settings: ConfigReader, decoder: UniformDecoder, theta: float, share: float
) -> RotarySpec:
    """Multimodal rotation (Qwen2-VL, section 2.1): with equal positions it is the plain one."""
    parts = settings.items("mrope_section", 3)
    if parts is None:
        return read_rotary_section(settings, decoder, theta, share)
    pairs = [part for part in parts if isinstance(part, int) and not isinstance(part, bool) and part > 0]
    if len(pairs) != len(parts) or 2 * sum(pairs) != decoder.head_size:
        raise settings.error("mrope_section", f"three numbers of pairs, {decoder.head_size // 2} in all")
    settings.expect("type", "mrope", "default")
    settings.expect("rope_type", "mrope", "default")
    theta = settings.number("rope_theta", theta)
    settings.finish()
    return RotarySpec("default", theta, decoder.head_size)


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
    if kind not in _KINDS and kind != "su":
        raise settings.error(key, f"one of {', '.join(_KINDS)}; other rotary variants are not supported")
    if kind == "su":  # longrope's name before it was published
        kind = "longrope"
    theta = settings.number("rope_theta", theta)
    share = settings.number("partial_rotary_factor", share)
    size = int(decoder.head_size * min(share, 1.0))
    if size == 0 or size % 2 or share > 1:
        raise CheckpointError(
            f"a share {share} of {decoder.head_size} channels of a head would rotate, expected an even number"
        )
    rotary = _KINDS[kind](settings, theta, size, decoder.context)
    if kind == "proportional":  # frequencies are those of whole heads, most of which stay
        rotary = replace(rotary, size=decoder.head_size)
    settings.finish()
    return rotary


def read_grown_rotary(config: ConfigReader, decoder: UniformDecoder) -> tuple[float, RotarySpec]:
    """Reads `rope_parameters` with Llama 4's growth of queries, and how much they grow (ministral3).

    Raises:
        CheckpointError: a kind, key or value is not known.
    """
    settings = config.section("rope_parameters")
    growth = settings.optional_number("llama_4_scaling_beta") or 0.0
    settings.optional_integer("max_position_embeddings")  # repeats the configuration's own
    rotary = read_rotary_section(settings, decoder, config.number("rope_theta", DEFAULT_THETA))
    if growth and not rotary.original_context:
        raise settings.error("original_max_position_embeddings", "a number beside llama_4_scaling_beta")
    return growth, rotary


def read_two_rotaries(
    config: ConfigReader, decoder: UniformDecoder, theta: float, local_theta: float
) -> tuple[RotarySpec, RotarySpec]:
    """Rotary settings of layers that see everything, and of layers with a window (gemma3, olmo3).

    Scaling of the old style applies to the layers that see everything.

    Args:
        config: the configuration.
        decoder: its sizes.
        theta: base of layers that see everything, when their object names none.
        local_theta: the same of layers with a window.

    Raises:
        CheckpointError: a kind, key or value is not known, or both styles disagree.
    """
    everywhere = RotarySpec("default", theta, decoder.head_size)
    local = RotarySpec("default", local_theta, decoder.head_size)
    if config.filled("rope_parameters"):
        both = config.section("rope_parameters")
        everywhere = read_rotary_section(both.section("full_attention"), decoder, theta)
        local = read_rotary_section(both.section("sliding_attention"), decoder, local_theta)
        both.finish()
    if config.filled("rope_scaling"):
        old = read_rotary_section(config.section("rope_scaling"), decoder, everywhere.theta)
        if config.filled("rope_parameters") and old != everywhere:
            raise config.error("rope_scaling", "what rope_parameters says as well; remove one of them")
        everywhere = old
    return everywhere, local


def _disagree(config: ConfigReader) -> CheckpointError:
    return config.error(
        "rope_scaling", "what rope_parameters and rope_theta say as well, since both are there; remove one"
    )


def _default(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    settings.optional_integer("original_max_position_embeddings")  # of no use without a scaling
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


def _longrope(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    """The short factors, which count up to the context that the model was trained with first.

    The decoder's context must end there: beyond it the long ones change every key that is cached.
    """
    original = settings.integer("original_max_position_embeddings")
    factor = settings.optional_number("factor") or context / original
    attention = settings.optional_number("attention_factor")
    if attention is None:
        grown = factor > 1 and original > 1
        attention = math.sqrt(1 + math.log(factor) / math.log(original)) if grown else 1.0
    settings.numbers("long_factor", size // 2)
    factors = settings.numbers("short_factor", size // 2)
    return RotarySpec(
        "longrope", theta, size, original_context=original, attention_factor=attention, factors=factors
    )


def _proportional(settings: ConfigReader, theta: float, size: int, context: int) -> RotarySpec:
    factor = settings.number("factor", 1.0)
    return RotarySpec("proportional", theta, size, factor=factor, turning=size // 2)


def _mscale(factor: float, scale: float) -> float:
    """YaRN's temperature as a factor of cosine and sine (YaRN, section 3.4)."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


_KINDS: Mapping[str, Callable[[ConfigReader, float, int, int], RotarySpec]] = {
    "default": _default,
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "proportional": _proportional,
}
